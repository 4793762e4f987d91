"""What v2 reads and answers, as structs: they encode the answers, name the members of requests, and make the OpenAPI
document. Families, contacts and events have the names that they have in GraphQL.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from nexus_graph import model
from nexus_graph.api import cursors
from nexus_graph.api.graphql.schema import PAGE_DEFAULT
from nexus_graph.api.http.answer import encode

SEQUENCE_MAX: Final = 2**63 - 1
"""PostgreSQL's largest bigint."""

ROWS_MAX: Final = 500
"""Rows of a batch: under the write lock they take some 15 ms, and other callers wait as long."""

Id = Annotated[str, Meta(description="A global id: opaque, and unique among all objects. GraphQL takes it too.")]
Version = Annotated[
    int, Meta(ge=0, description="Grows with every change of the family. Give it as `atLeast` to read your own write.")
]
Newness = Annotated[
    int, Meta(ge=0, le=SEQUENCE_MAX, description="Answer no older than this version, as a write returned it.")
]
Outcome = Literal["CREATED", "LINKED", "MERGED", "MATCHED", "REFUSED"]
Reason = Annotated[
    str | None,
    Meta(
        description="Why a union was refused; null unless one was.",
        extra_json_schema={"enum": ["FAMILY_LIMIT", None]},
    ),
]
EventKind = Literal[
    "CONTACT_CREATED", "CONTACT_LINKED", "FAMILIES_MERGED", "EVIDENCE_ADDED", "UNION_REFUSED", "CONTACT_DELETED",
    "PRIMARY_PROMOTED", "IDENTIFIER_RENORMALIZED",
]  # fmt: skip


class IdentifyBody(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Who is this? At least one identifier, neither null nor blank."""

    email: Annotated[str | None, Meta(description="An email address.")] = None
    phone_number: Annotated[
        str | int | None, Meta(description="A phone number: with + and country code, or as it is dialled.")
    ] = None


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """Who are these? The rows are decided in their order, each as if it were asked once the one before was answered."""

    rows: Annotated[list[IdentifyBody], Meta(max_length=ROWS_MAX)]


class AtLeast(msgspec.Struct, rename="camel"):
    """How new the answer must be."""

    at_least: Newness | None = None


class FamilyQuery(msgspec.Struct, rename="camel"):
    """Which family: exactly one of email, phoneNumber and contactId."""

    email: Annotated[str | None, Meta(description="An email of the family.")] = None
    phone_number: Annotated[str | None, Meta(description="A phone number of the family; write %2B for a +.")] = None
    contact_id: Annotated[
        str | None, Meta(description="Any contact of the family: its number in the record, or its global id.")
    ] = None
    at_least: Newness | None = None


class ContactsQuery(msgspec.Struct, rename="camel"):
    """Which contacts: with emailPrefix or phonePrefix those whose identifier begins so, else all by time."""

    email_prefix: Annotated[str | None, Meta(description="Their email begins so.")] = None
    phone_prefix: Annotated[
        str | None, Meta(description="Their phone number begins so, in canonical form; write %2B for a +.")
    ] = None
    limit: Annotated[int, Meta(ge=1, description="Contacts of a page; NEXUS_PAGE_MAX at most.")] = PAGE_DEFAULT
    after: Annotated[str | None, Meta(description="`next` of the page before.")] = None


class EventsQuery(msgspec.Struct):
    """Which events."""

    after: Annotated[int, Meta(ge=0, le=SEQUENCE_MAX, description="`next` of the page before.")] = 0
    limit: Annotated[int, Meta(ge=1, description="Events of a page; NEXUS_PAGE_MAX at most.")] = PAGE_DEFAULT


class StreamQuery(msgspec.Struct):
    """Where the stream begins: past `after`, or past Last-Event-ID, which goes first; without both, now."""

    after: Annotated[int, Meta(ge=0, le=SEQUENCE_MAX, description="Events past this sequence.")] | None = None


class Contact(msgspec.Struct, rename="camel"):
    """One record of an email, a phone number, or both. Identifiers are masked for callers who may not see them."""

    id: Id
    database_id: Annotated[int, Meta(ge=1, description="The contact's number in the record.")]
    email: Annotated[str | None, Meta(description="The email in canonical form.")]
    phone_number: Annotated[str | None, Meta(description="The phone number in canonical form.")]
    link_precedence: Annotated[
        Literal["PRIMARY", "SECONDARY"], Meta(description="Whether this contact leads its family.")
    ]
    created_at: Annotated[datetime, Meta(tz=True, description="When the contact came to be.")]


class Family(msgspec.Struct, rename="camel"):
    """All contacts that are one person, by what is known."""

    id: Id
    version: Version
    emails: Annotated[tuple[str, ...], Meta(description="The distinct emails: the primary's first.")]
    phone_numbers: Annotated[tuple[str, ...], Meta(description="The distinct phone numbers: the primary's first.")]
    primary_contact: Annotated[Contact, Meta(description="The most senior contact.")]
    secondary_contacts: Annotated[list[Contact], Meta(description="All other contacts, by the time they came to be.")]


class DroppedPart(msgspec.Struct):
    """A part of an identifier that is not kept."""

    field: Literal["email", "phoneNumber"]
    part: Literal["extension", "parameters"]


class Identified(msgspec.Struct):
    """What was decided; it is committed."""

    outcome: Outcome
    version: Version
    reason: Reason
    family: Family
    dropped: Annotated[
        list[DroppedPart] | UnsetType, Meta(description="What was left away of the identifiers; absent if nothing was.")
    ] = UNSET


class DecidedRow(msgspec.Struct):
    """A row that was decided; it is committed."""

    status: Literal[200]
    outcome: Outcome
    version: Version
    reason: Reason
    family: Annotated[
        Family | None,
        Meta(
            description="The family; null where an answer's families have too many contacts together. Then read the "
            "family by one of its identifiers, with `version` as `atLeast`."
        ),
    ]
    dropped: list[DroppedPart] | UnsetType = UNSET


class FieldFault(msgspec.Struct):
    """A member of the request that is at fault."""

    field: str
    message: str


class Problem(msgspec.Struct, rename="camel"):
    """Why there is no answer (RFC 9457). It never repeats a value."""

    type: str
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    code: str
    detail: str
    errors: list[FieldFault]
    correlation_id: Annotated[str, Meta(description="The X-Request-ID of the answer.")]


RESULTS: Final = (DecidedRow, Problem)
"""What the result of a row may be; `status` tells which."""


def _component(shape: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{shape.__name__}"}


class BatchAnswer(msgspec.Struct):
    """A result for each row, in the rows' order: a DecidedRow or a Problem."""

    results: list[Annotated[Raw, Meta(extra_json_schema={"oneOf": [_component(shape) for shape in RESULTS]})]]


class ContactPage(msgspec.Struct):
    """Contacts: by email or phone, if the list was asked for by the beginning of one, else by time."""

    contacts: list[Contact]
    next: Annotated[str | None, Meta(description="`after` of the next page; null on the last one.")]


class Event(msgspec.Struct, rename="camel"):
    """Something that happened to a family. It names nobody: ids only."""

    id: Id
    sequence: Annotated[int, Meta(ge=1, description="Its place among all events, in the order of their commits.")]
    at: Annotated[datetime, Meta(tz=True)]
    kind: EventKind
    family_id: Id
    contact_id: Id | None
    other_family_id: Id | None
    reason: Reason
    request_id: Annotated[str | None, Meta(description="The X-Request-ID of the request that caused it.")]


class EventPage(msgspec.Struct):
    """Events in the order of their commits. None between two of them is missing."""

    events: list[Event]
    next: Annotated[
        int, Meta(ge=0, description="`after` of the next page. If there were no events, the same page will have them.")
    ]


def family_of(family: model.Family) -> Family:
    """The family as v2 answers it: encoded already, once for all callers that share it."""
    return cast("Family", Raw(encoded_family(family)))


def encoded_family(family: model.Family) -> bytes:
    """The same, as bytes."""
    encoded: bytes = family.serialised_by(_encoded, family)
    return encoded


def contact_of(contact: model.Contact, precedence: model.Precedence) -> Contact:
    """The contact as v2 answers it."""
    return Contact(
        cursors.encode_id(cursors.CONTACT, contact.id),
        contact.id,
        contact.email,
        contact.phone,
        _PRECEDENCES[precedence],
        contact.created_at.astimezone(UTC),
    )


def event_of(event: model.IdentityEvent) -> Event:
    """The event as v2 answers it."""
    return Event(
        cursors.encode_id(cursors.EVENT, event.sequence),
        event.sequence,
        event.at.astimezone(UTC),
        _KINDS[event.kind],
        cursors.encode_id(cursors.FAMILY, event.family_id),
        _global_id(cursors.CONTACT, event.contact_id),
        _global_id(cursors.FAMILY, event.other_family_id),
        event.cause,
        None if event.request_id is None else str(event.request_id),
    )


def dropped_of(dropped: Sequence[tuple[str, str]]) -> list[DroppedPart] | UnsetType:
    """The parts that `normalize` left out."""
    return [DroppedPart(field, part) for field, part in dropped] or UNSET  # type: ignore[arg-type]  # its only names


def _encoded(family: model.Family) -> bytes:
    primary, *others = family.contacts
    return encode(
        Family(
            cursors.encode_id(cursors.FAMILY, family.id),
            family.version,
            family.emails,
            family.phones,
            contact_of(primary, model.Precedence.PRIMARY),
            [contact_of(contact, model.Precedence.SECONDARY) for contact in others],
        )
    )


def _global_id(type_name: str, database_id: int | None) -> str | None:
    return None if database_id is None else cursors.encode_id(type_name, database_id)


_KINDS = {kind: cast("EventKind", kind.name) for kind in model.EventKind}
_PRECEDENCES: dict[model.Precedence, Literal["PRIMARY", "SECONDARY"]] = {
    model.Precedence.PRIMARY: "PRIMARY",
    model.Precedence.SECONDARY: "SECONDARY",
}
