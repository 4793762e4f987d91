"""Lists by page, as Relay has them: how long a page may be, what it holds, where it begins and ends."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Generic, Self, TypeVar

import strawberry

from nexus_graph.api.graphql.schema.declaration import described
from nexus_graph.config import Settings
from nexus_graph.errors import InvalidArgument, PageTooLarge

PAGE_DEFAULT: Final = 20
"""Items of a page when a client does not say; the schema shows it, so it is the same everywhere."""

Item = TypeVar("Item")
NodeType = TypeVar("NodeType")
EdgeType = TypeVar("EdgeType", bound="Edge")  # type: ignore[type-arg]

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


@strawberry.type
class Edge(Generic[Item, NodeType]):
    """An item of a list, and its place there. `noun` and `condition` stand in the descriptions of the fields."""

    connection: strawberry.Private["Connection[Item, NodeType, Self]"]
    item: strawberry.Private[Item]
    noun: ClassVar[str]
    condition: ClassVar[str] = ""

    @described("The place of this {noun}: give it as `after` to read on from here{condition}.")
    def cursor(self) -> str:
        return self.connection.cursor_of(self.item)

    @described("The {noun}.")
    def node(self) -> NodeType:
        return self.connection.nodes_of([self.item])[0]


@strawberry.type
class Connection(Generic[Item, NodeType, EdgeType]):
    """A page of a list, a subclass for each kind of list. `noun` stands in the descriptions of the fields."""

    items: strawberry.Private[Sequence[Item]]
    more_before: strawberry.Private[bool]
    more_after: strawberry.Private[bool]
    noun: ClassVar[str]
    condition: ClassVar[str] = ""
    edge: ClassVar[type]

    @described("The {noun}s of this page.")
    def nodes(self) -> list[NodeType]:
        return self.nodes_of(self.items)

    @described("The {noun}s of this page, each with its cursor.")
    def edges(self) -> list[EdgeType]:
        return [self.edge(connection=self, item=item) for item in self.items]

    @described("Where this page begins and ends.")
    def page_info(self) -> PageInfo:
        return PageInfo(
            has_next_page=self.more_after,
            has_previous_page=self.more_before,
            start_cursor=self.cursor_of(self.items[0]) if self.items else None,
            end_cursor=self.cursor_of(self.items[-1]) if self.items else None,
        )

    def nodes_of(self, items: Sequence[Item]) -> list[NodeType]:
        """The objects that clients see of the items."""
        raise NotImplementedError

    def cursor_of(self, item: Item) -> str:
        """The place of the item in the list."""
        raise NotImplementedError


def page_size(first: int | None, settings: Settings) -> int:
    """The most items of the page. Raises InvalidArgument, PageTooLarge."""
    size = PAGE_DEFAULT if first is None else first
    if size < 0:
        raise InvalidArgument("first must not be negative", field="first")
    if size > settings.page_max:
        raise PageTooLarge(f"first must be at most {settings.page_max}", field="first")
    return size
