"""The values of the domain: plain, frozen, comparable.

Values that every request makes are msgspec structs: a frozen dataclass takes ten times as long to make.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import repeat
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import msgspec

Value = TypeVar("Value")

DATE_OMITTED: Final = datetime(1, 1, 1, tzinfo=UTC)
"""The date of a contact whose date the caller did not ask for."""


class _memoised(Generic[Value]):  # noqa: N801 - it is used as `property` is
    """functools.cached_property without its lock, which costs known identities 4 % until Python 3.12 has none."""

    def __init__(self, make: Callable[[Any], Value]) -> None:
        self._make, self.__doc__ = make, make.__doc__

    def __get__(self, instance: Any, _owner: type) -> Value:
        value = instance.__dict__[self._make.__name__] = self._make(instance)
        return value  # from now on found before this descriptor


class Outcome(StrEnum):
    """What identify did."""

    CREATED = "CREATED"
    LINKED = "LINKED"
    MERGED = "MERGED"
    MATCHED = "MATCHED"
    REFUSED = "REFUSED"


class Precedence(StrEnum):
    """Whether a contact is its family's primary."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class Source(StrEnum):
    """Which store answered a family read."""

    GRAPH = "GRAPH"
    RECORD = "RECORD"


class IdentifyRequest(msgspec.Struct, frozen=True, gc=False):
    """One identify call in canonical form (`normalize`): at least one identifier is present.

    `brief` is True if the caller needs neither the family's version nor its contacts' dates: that answer is cheaper.
    """

    email: str | None
    phone: str | None
    request_id: UUID | None = None
    brief: bool = False
    dropped: tuple[tuple[str, str], ...] = ()
    """Parts that `normalize` left out: the request's member, and the text."""


class FamilyKey(msgspec.Struct, frozen=True, gc=False):
    """A reader's key to a family: the id of any of its contacts, or an identifier in canonical form."""

    kind: Literal["contact", "email", "phone"]
    value: int | str


class Contact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A contact row. Every family read makes some, so this is a struct: nine times as fast to make as a dataclass, not
    tracked by the garbage collector, and kept by the cache unchanged.
    """

    id: int
    email: str | None
    phone: str | None
    created_at: datetime


class Family(msgspec.Struct, frozen=True, dict=True):
    """A family as of `version`: the primary first, then the secondaries by (created_at, id).

    `id` is the primary's contact id. The answer to a `brief` identify may have version 0 and dates DATE_OMITTED.
    """

    version: int
    contacts: tuple[Contact, ...]
    source: Source = Source.RECORD

    @property
    def id(self) -> int:
        return self.contacts[0].id

    @property
    def primary(self) -> Contact:
        return self.contacts[0]

    @property
    def secondaries(self) -> tuple[Contact, ...]:
        return self.contacts[1:]

    @_memoised
    def ids(self) -> frozenset[int]:
        """The ids of its contacts."""
        return frozenset(contact.id for contact in self.contacts)

    @_memoised
    def emails(self) -> tuple[str, ...]:
        """Distinct emails, the primary's first, then in the contacts' order."""
        return tuple(dict.fromkeys(contact.email for contact in self.contacts if contact.email is not None))

    @_memoised
    def phones(self) -> tuple[str, ...]:
        """Distinct phones, the primary's first, then in the contacts' order."""
        return tuple(dict.fromkeys(contact.phone for contact in self.contacts if contact.phone is not None))

    @_memoised
    def answers(self) -> dict[Callable[..., Any], Any]:
        """Memoised answers, by the function that made each."""
        return {}

    def serialised_by(self, make: Callable[..., Any], *given: object) -> Any:
        """`make(self)`, memoised: callers that share this family share the answer."""
        if make not in self.answers:
            answer = make(*given)
            self.answers.clear()  # only the newest: the cache holds thousands of families
            self.answers[make] = answer
        return self.answers[make]

    def is_known_by(self, key: FamilyKey) -> bool:
        """True if this key leads to the family."""
        if key.kind == "email":
            return key.value in self.emails
        if key.kind == "phone":
            return key.value in self.phones
        return key.value in self.ids

    def known_by(self) -> Iterator[FamilyKey]:
        """All keys that lead to the family."""
        for contact in self.contacts:
            yield FamilyKey("contact", contact.id)
        for email in self.emails:
            yield FamilyKey("email", email)
        for phone in self.phones:
            yield FamilyKey("phone", phone)

    @classmethod
    def of_columns(
        cls,
        version: int,
        ids: Sequence[int],
        emails: Sequence[str | None],
        phones: Sequence[str | None],
        created_ats: Sequence[datetime] | None,
    ) -> "Family":
        """A family from the parallel arrays that the SQL returns, the primary first. Without dates: DATE_OMITTED."""
        return cls(version, tuple(map(Contact, ids, emails, phones, created_ats or repeat(DATE_OMITTED))))


class Identification(msgspec.Struct, frozen=True, gc=False):
    """The answer of identify. `reason` is set when the outcome is REFUSED."""

    outcome: Outcome
    family: Family
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ContactFilter:
    """The filter of a list of contacts: canonical prefixes of identifiers, and times of creation."""

    email_prefix: str | None = None
    phone_prefix: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None

    @property
    def order(self) -> Literal["email", "phone", "time"]:
        """The list's order: by the identifier whose prefix the filter has, else by time of creation."""
        if self.email_prefix is not None:
            return "email"
        return "time" if self.phone_prefix is None else "phone"

    def place_of(self, contact: Contact) -> "ContactPlace":
        """The contact's position in the list."""
        if self.email_prefix is not None:
            return ContactPlace(contact.email or "", contact.id)
        if self.phone_prefix is not None:
            return ContactPlace(contact.phone or "", contact.id)
        return ContactPlace(contact.created_at, contact.id)


@dataclass(frozen=True, slots=True)
class ListedContact:
    """A contact without its family."""

    contact: Contact
    precedence: Precedence
    family_id: int


class ContactPlace(NamedTuple):
    """A contact's position in a list: its email, phone or time, by the list's order."""

    by: str | datetime
    id: int


class EventKind(StrEnum):
    """What happened to a family."""

    CONTACT_CREATED = "contact_created"
    CONTACT_LINKED = "contact_linked"
    FAMILIES_MERGED = "families_merged"
    EVIDENCE_ADDED = "evidence_added"
    UNION_REFUSED = "union_refused"
    CONTACT_DELETED = "contact_deleted"
    PRIMARY_PROMOTED = "primary_promoted"
    IDENTIFIER_RENORMALIZED = "identifier_renormalized"


class IdentityEvent(NamedTuple):
    """An event, in ids only. `sequence` numbers all events in the order of their commits."""

    sequence: int
    at: datetime
    kind: EventKind
    family_id: int
    contact_id: int | None
    other_family_id: int | None
    cause: str | None
    request_id: UUID | None

    @classmethod
    def of_row(cls, row: Iterable[Any]) -> "IdentityEvent":
        """An event from the columns that `events_after.sql` returns."""
        sequence, at, kind, *others = row
        return cls(sequence, at, EventKind(kind), *others)
