"""What identify does with rows one after another, decided in memory, by the rules of `identify_in_turn` and no other.

Everything is in numbers. An identifier is its index in the chunk. A family or contact is its id, or a negative number
if this chunk makes it: -1 is the first contact made, -2 the second. 0 is none. Moments are microseconds after the
chunk's beginning, each change at one of its own. A family that lost a union points to the survivor.

identify_in_turn is schema/migrations/0003_identify.sql; tests/property/test_import.py holds the two against each other.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from nexus_graph.model import EventKind, Outcome

FAMILY_LIMIT: Final = "FAMILY_LIMIT"
_PAST_ALL_IDS: Final = 2**63


class Seniority(NamedTuple):
    """The smallest is the most senior."""

    created_at: int
    """Microseconds after the chunk's beginning; negative for contacts from before the chunk."""
    incomplete: bool
    id: int


@dataclass(slots=True)
class Standing:
    """A family's seniority and size, which decide a union. The size is exact at least up to the limit."""

    seniority: Seniority
    contacts: int


class NewContact(NamedTuple):
    """A contact to insert; `home` is the family that it joined, the contact itself if it founded a family."""

    email: int | None
    phone: int | None
    home: int
    moment: int


class Change(NamedTuple):
    """A change of a family. `kind` None: the family has ended, and only the outbox gets a row."""

    kind: EventKind | None
    family: int
    contact: int | None
    other_family: int | None
    moment: int


class Evidence(NamedTuple):
    """A pairing to insert."""

    email: int
    phone: int
    family: int
    moment: int


class Loss(NamedTuple):
    """A family that lost a union."""

    loser: int
    survivor: int
    moment: int


@dataclass(slots=True)
class Known:
    """The record before the first row; the lists are indexed by identifier."""

    families: list[int]
    live: list[bool]
    """Whether a live contact carries the identifier. An identifier of evidence alone has a family and is not live."""
    pairings: set[tuple[int, int]]
    """The pairings of the rows that a live contact or evidence holds already."""
    standings: dict[int, Standing]
    """By id, for each family that a row may change."""


@dataclass(slots=True)
class Decisions:
    """What to write to the record, in the order of the decisions."""

    contacts: list[NewContact] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def last_homes(self) -> dict[int, tuple[int, int]]:
        """Of each family that lost a union: the last family of its contacts, and the moment at which they joined it."""
        last: dict[int, tuple[int, int]] = {}
        for loser, survivor, moment in reversed(self.losses):
            last[loser] = last.get(survivor, (survivor, moment))
        return last


class Decider:
    """Decides row after row, each upon the state that the row before left."""

    def __init__(self, known: Known, *, family_limit: int) -> None:
        self.decisions = Decisions()
        self._family_limit = family_limit
        self._families = known.families
        self._live = known.live
        self._pairings = known.pairings
        self._standings = known.standings
        self._survivors: dict[int, int] = {}
        self._refused: set[tuple[int, int]] = set()
        self._moment = -1

    def take(self, email: int | None, phone: int | None) -> Outcome:
        """Decide one row with at least one identifier."""
        by_email, by_phone = self._family_of(email), self._family_of(phone)
        all_live = (email is None or self._live[email]) and (phone is None or self._live[phone])
        home, outcome = by_email or by_phone, Outcome.MATCHED
        if by_email and by_phone and by_email != by_phone:
            home, other = sorted((by_email, by_phone), key=lambda family: self._standings[family].seniority)
            if self._size(home) + self._size(other) + (not all_live) > self._family_limit:
                self._refuse(home, other)
                return Outcome.REFUSED
            self._unite(home, other)
            outcome = Outcome.MERGED
        if all_live:
            self._keep_pairing(email, phone, home, with_event=outcome is Outcome.MATCHED)
        elif not home:
            self._add_contact(email, phone, home=0)
            outcome = Outcome.CREATED
        elif self._size(home) >= self._family_limit:
            self._stand_apart(None if by_email else email, None if by_phone else phone, home)
            outcome = Outcome.REFUSED
        else:
            self._add_contact(email, phone, home=home)
            outcome = Outcome.LINKED if outcome is Outcome.MATCHED else outcome
        return outcome

    def _family_of(self, identifier: int | None) -> int:
        if identifier is None:
            return 0
        family = self._families[identifier]
        if family in self._survivors:
            while family in self._survivors:
                family = self._survivors[family]
            self._families[identifier] = family  # the next lookup takes one step
        return family

    def _size(self, family: int) -> int:
        return self._standings[family].contacts

    def _unite(self, survivor: int, loser: int) -> None:
        moment = self._next_moment()
        self._standings[survivor].contacts += self._standings[loser].contacts
        self._survivors[loser] = survivor
        self.decisions.losses.append(Loss(loser, survivor, moment))
        self.decisions.changes += (
            Change(EventKind.FAMILIES_MERGED, survivor, loser, loser, moment),
            Change(None, loser, None, None, moment),
        )

    def _add_contact(self, email: int | None, phone: int | None, *, home: int) -> int:
        moment = self._next_moment()
        contact = -1 - len(self.decisions.contacts)
        kind = EventKind.CONTACT_LINKED
        if home:
            self._standings[home].contacts += 1
        else:
            home, kind = contact, EventKind.CONTACT_CREATED
            seniority = Seniority(moment, email is None or phone is None, _PAST_ALL_IDS - contact)
            self._standings[home] = Standing(seniority, contacts=1)
        for identifier in (email, phone):
            if identifier is not None:
                self._families[identifier] = home
                self._live[identifier] = True
        if email is not None and phone is not None:
            self._pairings.add((email, phone))
        self.decisions.contacts.append(NewContact(email, phone, home, moment))
        self.decisions.changes.append(Change(kind, home, contact, None, moment))
        return contact

    def _stand_apart(self, email: int | None, phone: int | None, full_family: int) -> None:
        """A contact of the identifiers that a full family refuses, and that no family has, founds a family."""
        if email is not None or phone is not None:
            self._refuse(self._add_contact(email, phone, home=0), full_family)

    def _keep_pairing(self, email: int | None, phone: int | None, home: int, *, with_event: bool) -> None:
        if email is None or phone is None or (email, phone) in self._pairings:
            return
        # Without an event of its own the pairing has the moment of the union.
        moment = self._next_moment() if with_event else self._moment
        self._pairings.add((email, phone))
        self.decisions.evidence.append(Evidence(email, phone, home, moment))
        if with_event:
            self.decisions.changes.append(Change(EventKind.EVIDENCE_ADDED, home, None, None, moment))

    def _refuse(self, home: int, other: int) -> None:
        pair = (min(home, other), max(home, other))
        if pair not in self._refused:
            self._refused.add(pair)
            moment = self._next_moment()
            self.decisions.changes.append(Change(EventKind.UNION_REFUSED, home, None, other, moment))

    def _next_moment(self) -> int:
        self._moment += 1
        return self._moment
