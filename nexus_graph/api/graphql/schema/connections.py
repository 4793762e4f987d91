"""Pages of a list: how long they may be, and where one begins and ends."""

from collections.abc import Sequence
from typing import Annotated, TypeVar

import strawberry

from nexus_graph.config import PAGE_DEFAULT, Settings
from nexus_graph.errors import InvalidArgument, PageTooLarge

Item = TypeVar("Item")

First = Annotated[
    int | None,
    strawberry.argument(description="At most this many items; more than the server's page limit is an error."),
]
After = Annotated[
    str | None,
    strawberry.argument(
        description="Only items after the one with this cursor. An empty string means from the first on."
    ),
]


@strawberry.type(description="Where a page begins and ends.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more items follow this page.")
    has_previous_page: bool = strawberry.field(description="Whether items come before this page.")
    start_cursor: str | None = strawberry.field(description="The cursor of the first item; null if the page is empty.")
    end_cursor: str | None = strawberry.field(description="The cursor of the last item: give it as `after` to go on.")


def page_size(first: int | None, settings: Settings) -> int:
    """How many items a page has. Raises InvalidArgument, PageTooLarge."""
    size = PAGE_DEFAULT if first is None else first
    if size < 0:
        raise InvalidArgument("first must not be negative", field="first")
    if size > settings.page_max:
        raise PageTooLarge(f"first must be at most {settings.page_max}", field="first")
    return size


def cut(found: Sequence[Item], size: int) -> tuple[Sequence[Item], bool]:
    """The page, and whether more follows, of one item more than the page holds."""
    return found[:size], len(found) > size
