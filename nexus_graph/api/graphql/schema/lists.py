"""Contacts listed: which, and page by page."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import strawberry

from nexus_graph import model
from nexus_graph.api.graphql.schema import cursors
from nexus_graph.api.graphql.schema.connections import PageInfo, cut, page_size
from nexus_graph.api.graphql.schema.context import Context, ContextInfo
from nexus_graph.api.graphql.schema.declaration import described
from nexus_graph.api.graphql.schema.types import Contact, LinkPrecedence
from nexus_graph.errors import InvalidArgument
from nexus_graph.identifiers import normalize


@strawberry.input(description="Which contacts. Conditions narrow each other; null is none.")
class ContactFilter:
    email_prefix: str | None = strawberry.field(
        default=None, description="Their email begins so. Upper case does not matter. The list is then by email."
    )
    phone_prefix: str | None = strawberry.field(
        default=None,
        description="Their phone number begins so, in canonical form: + and digits. The list is then by phone number. "
        "Not together with emailPrefix.",
    )
    created_from: datetime | None = strawberry.field(default=None, description="They came to be then or later.")
    created_before: datetime | None = strawberry.field(default=None, description="They came to be before then.")


Filter = Annotated[
    ContactFilter | None,
    strawberry.argument(description="Which contacts; all of them if there is none, by the time they came to be."),
]


@strawberry.type(description="A contact and its place in the list.")
class ListedContactEdge:
    place: strawberry.Private[model.ContactPlace]
    listed: strawberry.Private[model.ListedContact]

    @described("The place of this contact: give it as `after` to read on from here, with the same filter.")
    def cursor(self) -> str:
        return cursors.encode_place(self.place)

    @described("The contact.")
    def node(self) -> Contact:
        return _contact(self.listed)


@strawberry.type(description="A page of contacts.")
class ListedContactConnection:
    wanted: strawberry.Private[model.ContactFilter]
    page: strawberry.Private[Sequence[model.ListedContact]]
    more_before: strawberry.Private[bool]
    more_after: strawberry.Private[bool]

    @described("The contacts of this page.")
    def nodes(self) -> list[Contact]:
        return [_contact(listed) for listed in self.page]

    @described("The contacts of this page, each with its cursor.")
    def edges(self) -> list[ListedContactEdge]:
        return [ListedContactEdge(place=self._place(listed), listed=listed) for listed in self.page]

    @described("Where this page begins and ends.")
    def page_info(self) -> PageInfo:
        ends = [cursors.encode_place(self._place(self.page[at])) for at in (0, -1)] if self.page else [None, None]
        return PageInfo(
            has_next_page=self.more_after, has_previous_page=self.more_before, start_cursor=ends[0], end_cursor=ends[1]
        )

    @described("How many contacts there are on all pages; null past 10,000. Counted only when asked for.")
    async def total_count(self, info: ContextInfo) -> int | None:
        return await info.context.listing.count_contacts(self.wanted)

    def _place(self, listed: model.ListedContact) -> model.ContactPlace:
        contact = listed.contact
        by = contact.created_at
        if self.wanted.email_prefix is not None:
            return model.ContactPlace(contact.email or "", contact.id)
        if self.wanted.phone_prefix is not None:
            return model.ContactPlace(contact.phone or "", contact.id)
        return model.ContactPlace(by, contact.id)


async def contacts_page(
    context: Context, given: ContactFilter | None, first: int | None, after: str | None
) -> ListedContactConnection:
    """A page of the contacts that the filter lets through. Raises InvalidArgument, InvalidIdentifier, Unavailable."""
    size = page_size(first, context.settings)
    wanted = _wanted(given or ContactFilter())
    by_time = wanted.email_prefix is None and wanted.phone_prefix is None
    place = None if not after else cursors.place(after, by_time=by_time)
    page, more = cut(await context.listing.contacts(wanted, after=place, limit=size + 1), size)
    return ListedContactConnection(wanted=wanted, page=page, more_before=place is not None, more_after=more)


def _wanted(given: ContactFilter) -> model.ContactFilter:
    if given.email_prefix is not None and given.phone_prefix is not None:
        raise InvalidArgument("emailPrefix and phonePrefix cannot be combined", field="filter")
    return model.ContactFilter(
        None if given.email_prefix is None else normalize.email_prefix(given.email_prefix),
        None if given.phone_prefix is None else normalize.phone_prefix(given.phone_prefix),
        given.created_from,
        given.created_before,
    )


def _contact(listed: model.ListedContact) -> Contact:
    return Contact(contact=listed.contact, precedence=LinkPrecedence[listed.precedence.name])
