"""Contacts listed: which, and page by page."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import strawberry

from nexus_graph import model
from nexus_graph.api import cursors
from nexus_graph.api.graphql.schema.connections import Connection, Edge, page_size
from nexus_graph.api.graphql.schema.declaration import Context, ContextInfo, described
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
class ListedContactEdge(Edge[model.ListedContact, Contact]):
    noun = "contact"
    condition = ", with the same filter"


@strawberry.type(description="A page of contacts.")
class ListedContactConnection(Connection[model.ListedContact, Contact, ListedContactEdge]):
    wanted: strawberry.Private[model.ContactFilter]
    noun = "contact"
    edge = ListedContactEdge

    @described("How many contacts there are on all pages; null past 10,000. Counted only when asked for.")
    async def total_count(self, info: ContextInfo) -> int | None:
        return await info.context.identity.listing.count_contacts(self.wanted)

    def nodes_of(self, items: Sequence[model.ListedContact]) -> list[Contact]:
        return [Contact(contact=one.contact, precedence=LinkPrecedence[one.precedence.name]) for one in items]

    def cursor_of(self, item: model.ListedContact) -> str:
        return cursors.encode_place(self.wanted.place_of(item.contact))


async def contacts_page(
    context: Context, given: ContactFilter | None, first: int | None, after: str | None
) -> ListedContactConnection:
    """A page of the contacts that the filter lets through. Raises InvalidArgument, InvalidIdentifier, Unavailable."""
    size = page_size(first, context.settings)
    wanted = _wanted(given or ContactFilter())
    place = None if not after else cursors.place(after, by_time=wanted.order == "time")
    found = await context.identity.listing.contacts(wanted, after=place, limit=size + 1)
    return ListedContactConnection(
        wanted=wanted, items=found[:size], more_before=place is not None, more_after=len(found) > size
    )


def _wanted(given: ContactFilter) -> model.ContactFilter:
    if given.email_prefix is not None and given.phone_prefix is not None:
        raise InvalidArgument("emailPrefix and phonePrefix cannot be combined", field="filter")
    return model.ContactFilter(
        None if given.email_prefix is None else normalize.email_prefix(given.email_prefix),
        None if given.phone_prefix is None else normalize.phone_prefix(given.phone_prefix),
        given.created_from,
        given.created_before,
    )
