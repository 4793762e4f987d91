"""What happened to identities, as clients see it: ids only."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

import strawberry
from strawberry import enum_value

from nexus_graph import model
from nexus_graph.api import cursors
from nexus_graph.api.graphql.schema.connections import Connection, Edge, page_size
from nexus_graph.api.graphql.schema.declaration import Context, ContextInfo, Node, described
from nexus_graph.api.graphql.schema.scalars import BigInt


@strawberry.enum(description="Why a union was refused.")
class RefusalReason(Enum):
    FAMILY_LIMIT = enum_value("FAMILY_LIMIT", description="The family would have more contacts than are allowed.")


@strawberry.enum(description="What happened.")
class IdentityEventKind(Enum):
    CONTACT_CREATED = enum_value("CONTACT_CREATED", description="A new family began, with this contact.")
    CONTACT_LINKED = enum_value("CONTACT_LINKED", description="The family got a further contact.")
    FAMILIES_MERGED = enum_value("FAMILIES_MERGED", description="The family took the other one in.")
    EVIDENCE_ADDED = enum_value("EVIDENCE_ADDED", description="A request named two known identifiers of it together.")
    UNION_REFUSED = enum_value("UNION_REFUSED", description="The family and the other one were not united.")
    CONTACT_DELETED = enum_value("CONTACT_DELETED", description="A contact of the family was deleted.")
    PRIMARY_PROMOTED = enum_value("PRIMARY_PROMOTED", description="The contact leads the family, once the other's.")
    IDENTIFIER_RENORMALIZED = enum_value(
        "IDENTIFIER_RENORMALIZED",
        description="An identifier of the family is written by newer rules, and names the same.",
    )


@strawberry.type(description="Something that happened to a family. It names nobody: ids only.")
class IdentityEvent(Node):
    event: strawberry.Private[model.IdentityEvent]

    @described("The global id: opaque, and unique among all objects.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(cursors.encode_id(cursors.EVENT, self.event.sequence))

    @described("Its place among all events, in the order of their commits. It is the family's version after it.")
    def sequence(self) -> BigInt:
        return BigInt(self.event.sequence)

    @described("When it happened.")
    def at(self) -> datetime:
        return self.event.at

    @described("What happened.")
    def kind(self) -> IdentityEventKind:
        return _KINDS[self.event.kind]

    @described("The global id of the family, as it was known then.")
    def family_id(self) -> strawberry.ID:
        return strawberry.ID(cursors.encode_id(cursors.FAMILY, self.event.family_id))

    @described("The global id of the contact that it is about, if it is about one.")
    def contact_id(self) -> strawberry.ID | None:
        return _global_id(cursors.CONTACT, self.event.contact_id)

    @described("The global id of the other family, if it is about two.")
    def other_family_id(self) -> strawberry.ID | None:
        return _global_id(cursors.FAMILY, self.event.other_family_id)

    @described("Why a union was refused; null for any other kind.")
    def reason(self) -> RefusalReason | None:
        return None if self.event.cause is None else RefusalReason[self.event.cause]

    @described("The id of the request that caused it, as a UUID: the X-Request-ID of its answer.")
    def request_id(self) -> strawberry.ID | None:
        return None if self.event.request_id is None else strawberry.ID(str(self.event.request_id))


@strawberry.type(description="An event and its place in a list.")
class IdentityEventEdge(Edge[model.IdentityEvent, IdentityEvent]):
    noun = "event"


@strawberry.type(description="A page of events, the oldest first.")
class IdentityEventConnection(Connection[model.IdentityEvent, IdentityEvent, IdentityEventEdge]):
    family_id: strawberry.Private[int | None]
    noun = "event"
    edge = IdentityEventEdge

    @described("How many events there are on all pages; null past 10,000. Counted only when asked for.")
    async def total_count(self, info: ContextInfo) -> int | None:
        return await info.context.identity.listing.count_events(self.family_id)

    def nodes_of(self, items: Sequence[model.IdentityEvent]) -> list[IdentityEvent]:
        return [IdentityEvent(event=event) for event in items]

    def cursor_of(self, item: model.IdentityEvent) -> str:
        return cursors.encode_sequence(item.sequence)


async def events_page(
    context: Context, family_id: int | None, first: int | None, after: str | None, *, at_least: int | None = None
) -> IdentityEventConnection:
    """A page of the events of a family, or of all. Raises InvalidArgument, Unavailable."""
    size = page_size(first, context.settings)
    start = 0 if not after else cursors.sequence(after)
    found = await context.identity.listing.events(family_id, after=start, limit=size + 1, at_least=at_least)
    return IdentityEventConnection(
        items=found[:size], family_id=family_id, more_before=start > 0, more_after=len(found) > size
    )


def _global_id(type_name: str, database_id: int | None) -> strawberry.ID | None:
    return None if database_id is None else strawberry.ID(cursors.encode_id(type_name, database_id))


_KINDS = {kind: IdentityEventKind[kind.name] for kind in model.EventKind}
