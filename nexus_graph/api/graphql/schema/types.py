"""The GraphQL types: thin views on the values of `identity.model`. A query pays only for the fields it asks for."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry
from strawberry import enum_value

from nexus_graph import model
from nexus_graph.api import cursors
from nexus_graph.api.graphql.schema.connections import PAGE_DEFAULT, After, Connection, Edge, First, page_size
from nexus_graph.api.graphql.schema.declaration import ContextInfo, Node, described
from nexus_graph.api.graphql.schema.events import IdentityEventConnection, RefusalReason, events_page
from nexus_graph.api.graphql.schema.scalars import BigInt, EmailAddress, PhoneNumber
from nexus_graph.door.standing import Standing


@strawberry.enum(description="What identify did.")
class IdentifyOutcome(Enum):
    CREATED = enum_value("CREATED", description="Nobody was known by these identifiers: a new family.")
    LINKED = enum_value("LINKED", description="Something new about a known family: a secondary contact was added.")
    MERGED = enum_value("MERGED", description="The request tied families together: the most senior took the others in.")
    MATCHED = enum_value("MATCHED", description="Everything was known already.")
    REFUSED = enum_value("REFUSED", description="The union was not made; `reason` says why.")


@strawberry.enum(description="Whether a contact leads its family.")
class LinkPrecedence(Enum):
    PRIMARY = enum_value("PRIMARY", description="The most senior contact: the family is known by it.")
    SECONDARY = enum_value("SECONDARY", description="A contact that was linked to the primary later.")


@strawberry.enum(description="The store that answered.")
class FamilySource(Enum):
    GRAPH = enum_value("GRAPH", description="Neo4j, by walking identifiers and evidence.")
    RECORD = enum_value("RECORD", description="PostgreSQL, the system of record.")


@strawberry.enum(description="What kind of failure a caller met.")
class UserErrorCode(Enum):
    BAD_USER_INPUT = enum_value("BAD_USER_INPUT", description="An identifier is missing or has no canonical form.")
    ROW_REJECTED = enum_value("ROW_REJECTED", description="The database refused this request for its data.")
    UNAVAILABLE = enum_value("UNAVAILABLE", description="A server is away; the same request may be sent again.")
    OVERLOADED = enum_value("OVERLOADED", description="Too many requests are waiting; try again later.")


@strawberry.interface(description="A failure that a caller can act upon.")
class UserError:
    code: UserErrorCode = strawberry.field(description="The kind of failure.")
    message: str = strawberry.field(description="What is wrong, for people. It never repeats the value.")
    field: str | None = strawberry.field(description="The field of the input that is at fault, if it is one field.")


@strawberry.type(description="One record of an email, a phone number, or both.")
class Contact(Node):
    contact: strawberry.Private[model.Contact]
    precedence: strawberry.Private[LinkPrecedence]
    at_least: strawberry.Private[int | None] = None
    """The version that the reader demanded; it holds for everything that is read from here."""

    @described("The global id: opaque, and unique among all objects.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(cursors.encode_id(cursors.CONTACT, self.contact.id))

    @described("The contact's number in the record, as REST answers it.")
    def database_id(self) -> BigInt:
        return BigInt(self.contact.id)

    @described("The email in canonical form.")
    def email(self) -> str | None:
        return self.contact.email

    @described("The phone number in canonical form.")
    def phone_number(self) -> str | None:
        return self.contact.phone

    @described("Whether this contact leads its family.")
    def link_precedence(self) -> LinkPrecedence:
        return self.precedence

    @described("When the contact came to be. The most senior of a family is its primary.")
    def created_at(self) -> datetime:
        return self.contact.created_at

    @described("The family that the contact belongs to; null if the contact was deleted meanwhile.")
    async def family(self, info: ContextInfo) -> "ContactFamily | None":
        key = model.FamilyKey("contact", self.contact.id)
        family = await info.context.identity.families.family(key, at_least=self.at_least)
        return None if family is None else ContactFamily(family=family, at_least=self.at_least)


@strawberry.type(description="A contact and its place in a list.")
class ContactEdge(Edge[model.Contact, Contact]):
    noun = "contact"


@strawberry.type(description="A page of contacts, by the time they came to be.")
class ContactConnection(Connection[model.Contact, Contact, ContactEdge]):
    total: strawberry.Private[int]
    at_least: strawberry.Private[int | None]
    noun = "contact"
    edge = ContactEdge

    @described("How many contacts there are on all pages.")
    def total_count(self) -> int:
        return self.total

    def nodes_of(self, items: Sequence[model.Contact]) -> list[Contact]:
        secondary, at_least = LinkPrecedence.SECONDARY, self.at_least
        return [Contact(contact=contact, precedence=secondary, at_least=at_least) for contact in items]

    def cursor_of(self, item: model.Contact) -> str:
        return cursors.encode_cursor(item)


@strawberry.type(description="All contacts that are one person, by what is known: a primary and its secondaries.")
class ContactFamily(Node):
    family: strawberry.Private[model.Family]
    at_least: strawberry.Private[int | None] = None
    """The version that the reader demanded; it holds for everything that is read from here."""
    former_id: strawberry.Private[int | None] = None
    """The id in the request, if it was merged away and is no longer the id of the family."""

    @described(
        "The global id: opaque, and unique among all objects. Where `node` was asked by an id that was merged away, it "
        "is that id still, and `mergedInto` holds the family under its own."
    )
    def id(self) -> strawberry.ID:
        return strawberry.ID(cursors.encode_id(cursors.FAMILY, self.former_id or self.family.id))

    @described(
        "The same family under its own id, where the id of this object was merged away; null otherwise. Then go on "
        "with that one."
    )
    def merged_into(self) -> "ContactFamily | None":
        return None if self.former_id is None else ContactFamily(family=self.family, at_least=self.at_least)

    @described("Grows with every change of the family. Give it as `atLeast` to read your own write.")
    def version(self) -> BigInt:
        return BigInt(self.family.version)

    @described("The store that answered.")
    def source(self) -> FamilySource:
        return _SOURCES[self.family.source]

    @described("The distinct emails: the primary's first, then by the time they came to be.")
    def emails(self) -> list[str]:
        return list(self.family.emails)

    @described("The distinct phone numbers: the primary's first, then by the time they came to be.")
    def phone_numbers(self) -> list[str]:
        return list(self.family.phones)

    @described("The most senior contact.")
    def primary_contact(self) -> Contact:
        return Contact(contact=self.family.primary, precedence=LinkPrecedence.PRIMARY, at_least=self.at_least)

    @described("All other contacts, by the time they came to be.")
    def secondary_contacts(
        self, info: ContextInfo, first: First = PAGE_DEFAULT, after: After = None
    ) -> ContactConnection:
        size = page_size(first, info.context.settings)
        contacts = self.family.secondaries
        start = 0 if not after else cursors.after(contacts, after)
        return ContactConnection(
            items=contacts[start : start + size],
            more_before=start > 0,
            more_after=start + size < len(contacts),
            total=len(contacts),
            at_least=self.at_least,
        )

    @described("What happened to the family, and to those that it took in, in order.")
    async def identity_events(
        self, info: ContextInfo, first: First = PAGE_DEFAULT, after: After = None
    ) -> IdentityEventConnection:
        return await events_page(info.context, self.family.id, first, after, at_least=self.at_least)


@strawberry.enum(description="A part of an identifier that is not kept.")
class DroppedPart(Enum):
    PHONE_EXTENSION = enum_value("PHONE_EXTENSION", description="The extension of the phone number.")
    PHONE_PARAMETERS = enum_value(
        "PHONE_PARAMETERS", description="What a `tel:` or `sms:` link says beyond the number."
    )


@strawberry.type(description="identify decided; the answer is committed.")
class IdentifySuccess:
    identification: strawberry.Private[model.Identification]
    parts_dropped: strawberry.Private[tuple[tuple[str, str], ...]] = ()

    @described("What was done.")
    def outcome(self) -> IdentifyOutcome:
        return _OUTCOMES[self.identification.outcome]

    @described("Why a union was refused; null unless the outcome is REFUSED.")
    def reason(self) -> RefusalReason | None:
        reason = self.identification.reason
        return None if reason is None else RefusalReason[reason]

    @described("The family that the identifiers belong to.")
    def family(self) -> ContactFamily:
        family = self.identification.family
        return ContactFamily(family=family, at_least=family.version)

    @described("The family's version after this request: give it as `atLeast` to read your write.")
    def version(self) -> BigInt:
        return BigInt(self.identification.family.version)

    @described("What was left away of the identifiers; nearly always nothing.")
    def dropped(self) -> list[DroppedPart]:
        return [_PARTS[part] for part in self.parts_dropped]


@strawberry.type(description="An identifier is missing, has no canonical form, or was refused. Nothing was written.")
class InvalidIdentifierError(UserError):
    pass


@strawberry.type(description="No answer for now. Sending the same request again is safe.")
class TemporarilyUnavailableError(UserError):
    retry_after_seconds: int = strawberry.field(description="Wait at least this long before trying again.")


@strawberry.type(description="A limit on how often a caller may call, and what is left of it.")
class RateLimit:
    standing: strawberry.Private[Standing]

    @described("What the caller may spend in a window: each root field of an operation is one, large ones are more.")
    def limit(self) -> int:
        return self.standing.limit

    @described("What the caller may spend now.")
    def remaining(self) -> int:
        return self.standing.remaining

    @described("Seconds until the window ends, and what was spent begins to count less.")
    def reset_seconds(self) -> int:
        return self.standing.reset_seconds

    @described("The length of a window, in seconds.")
    def window_seconds(self) -> int:
        return self.standing.window_seconds


IdentifyResult = Annotated[
    IdentifySuccess | InvalidIdentifierError | TemporarilyUnavailableError,
    strawberry.union("IdentifyResult", description="What became of an identify request."),
]


@strawberry.input(description="Who is this? At least one identifier, neither null nor blank.")
class IdentifyInput:
    email: EmailAddress | None = strawberry.field(default=strawberry.UNSET, description="An email address.")
    phone_number: PhoneNumber | None = strawberry.field(default=strawberry.UNSET, description="A phone number.")


@strawberry.input(one_of=True, description="What is known of a family: exactly one of these.")
class FamilyLookup:
    contact_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The id of any contact of the family: its global id, or its number in the record. "
        "Ids of contacts that were merged away still lead to their family.",
    )
    email: EmailAddress | None = strawberry.field(default=strawberry.UNSET, description="An email of the family.")
    phone_number: PhoneNumber | None = strawberry.field(
        default=strawberry.UNSET, description="A phone number of the family."
    )


_PARTS = {
    ("phoneNumber", "extension"): DroppedPart.PHONE_EXTENSION,
    ("phoneNumber", "parameters"): DroppedPart.PHONE_PARAMETERS,
}
_OUTCOMES = {outcome: IdentifyOutcome[outcome.name] for outcome in model.Outcome}
_SOURCES = {source: FamilySource[source.name] for source in model.Source}
