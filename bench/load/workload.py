"""What the clients ask: a seeded mix over a population of people, and what each answer must say.

Identifiers are made of numbers, so that pgbench can make the same ones: number n is the email `pN@bench.example` and
the phone `+N`. Each number has eleven digits, and the second says who brought it into the world.

Families stay bounded although a tenth of all requests unite two: people stand in a queue, and three neighbours of it
are joined by two unions, then left alone. At 15 % new people and 10 % unions the queue is used up as fast as it grows,
for ever. A person gets at most EXTRA_MAX identifiers beyond the first pair; so a family has at most
JOINED_PEOPLE * (1 + EXTRA_MAX) contacts.
"""

import random
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Final, NamedTuple

from nexus_graph.model import Outcome

PRELOADED: Final = 12_000_000_000
FRESH: Final = 13_000_000_000
FAMILIES: Final = 14_000_000_000
PGBENCH: Final = 15_000_000_000
DENSE: Final = 16_000_000_000
HOT: Final = 17_000_000_000
PROBES: Final = 18_000_000_000

EXTRA_MAX: Final = 8
JOINED_PEOPLE: Final = 3
FAMILY_MAX_CONTACTS: Final = JOINED_PEOPLE * (1 + EXTRA_MAX)
CROWD_FRESH_MAX: Final = 50_000_000
HOT_CONTACTS: Final = 500
"""Then a new family is the hot one: half of the default NEXUS_FAMILY_LIMIT, so that nothing is ever refused."""
_PICKS_MAX: Final = 20


class Kind(StrEnum):
    """What a request is about."""

    REPEAT = "repeat"
    NEW_IDENTIFIER = "new identifier"
    NEW_PERSON = "new person"
    UNION = "union"


MIX: Final = {Kind.REPEAT: 0.50, Kind.NEW_IDENTIFIER: 0.25, Kind.NEW_PERSON: 0.15, Kind.UNION: 0.10}
_BOUNDS: Final = tuple(zip(MIX, accumulate(MIX.values()), strict=True))
OUTCOMES: Final = {
    Kind.REPEAT: Outcome.MATCHED,
    Kind.NEW_IDENTIFIER: Outcome.LINKED,
    Kind.NEW_PERSON: Outcome.CREATED,
    Kind.UNION: Outcome.MERGED,
}


class Pairing(NamedTuple):
    """An email and a phone, by their numbers."""

    email: int
    phone: int

    @property
    def identifiers(self) -> tuple[str, str]:
        """As they are written."""
        return f"p{self.email}@bench.example", f"+{self.phone}"


class Person:
    """What the clients know of somebody: only what an answer has confirmed."""

    __slots__ = ("emails", "extra", "phones")

    def __init__(self, pairing: Pairing) -> None:
        self.emails = [pairing.email]
        self.phones = [pairing.phone]
        self.extra = 0
        """Identifiers given beyond the first two, those still being asked about among them."""

    def learn(self, pairing: Pairing) -> None:
        """A pairing of something known and something new was acknowledged. The new one has the greater number: the
        other was acknowledged before it was made.
        """
        if pairing.email > pairing.phone:
            self.emails.append(pairing.email)
        else:
            self.phones.append(pairing.phone)


class Request(NamedTuple):
    """One identify call."""

    kind: Kind
    pairing: Pairing
    person: Person | None = None
    """Whose new identifier it is."""


class Workload:
    """Makes requests for any number of concurrent clients, and learns from their answers.

    Whatever is in flight at the same time, the outcome of each request is certain: a repeat names a pairing that was
    acknowledged, a new identifier comes with an acknowledged one, a union joins people who are not joined yet.
    """

    def __init__(self, *, people: int, seed: int) -> None:
        """`people` were loaded before (`preloaded`); those of odd number are for pgbench's unions."""
        self._random = random.Random(seed)  # noqa: S311 - it guards nothing
        self._pairings = list(preloaded(people))
        self._people = [Person(pairing) for pairing in self._pairings]
        self._queue = self._people[::2]
        self._random.shuffle(self._queue)
        self._unions = 0
        self._fresh = FRESH

    def next(self) -> Request:
        """A request to send now. Where its kind is impossible for want of people, a new person comes instead."""
        kind = self._kind()
        request = None
        if kind is Kind.REPEAT:
            return self.repeat()
        if kind is Kind.NEW_IDENTIFIER:
            request = self._new_identifier()
        elif kind is Kind.UNION:
            request = self._union()
        return request or Request(Kind.NEW_PERSON, Pairing(*[self._fresh_number()] * 2))

    def repeat(self) -> Request:
        """A pairing that was acknowledged, asked again."""
        return Request(Kind.REPEAT, self._pairings[int(self._random.random() * len(self._pairings))])

    def acknowledge(self, request: Request) -> None:
        """The request was answered as it should be."""
        kind, pairing, person = request
        if kind is Kind.REPEAT:
            return
        self._pairings.append(pairing)
        if kind is Kind.NEW_PERSON:
            newcomer = Person(pairing)
            self._people.append(newcomer)
            self._queue.append(newcomer)
        elif person is not None:
            person.learn(pairing)

    def _kind(self) -> Kind:
        dice = self._random.random()
        for kind, bound in _BOUNDS:
            if dice < bound:
                return kind
        return Kind.UNION

    def _new_identifier(self) -> Request | None:
        for _ in range(_PICKS_MAX):
            person = self._people[int(self._random.random() * len(self._people))]
            if person.extra < EXTRA_MAX:
                break
        else:
            return None
        person.extra += 1
        fresh, dice = self._fresh_number(), self._random.random()
        # The dice also chooses which of the person's identifiers it is.
        if dice < 0.5:
            pairing = Pairing(person.emails[int(2 * dice * len(person.emails))], fresh)
        else:
            pairing = Pairing(fresh, person.phones[int((2 * dice - 1) * len(person.phones))])
        return Request(Kind.NEW_IDENTIFIER, pairing, person)

    def _union(self) -> Request | None:
        place = JOINED_PEOPLE * (self._unions // 2) + self._unions % 2
        if place + 1 >= len(self._queue):
            return None
        self._unions += 1
        return Request(Kind.UNION, Pairing(self._queue[place].emails[0], self._queue[place + 1].phones[0]))

    def _fresh_number(self) -> int:
        self._fresh += 1
        return self._fresh


class Crowd:
    """The same mix over more people than are worth remembering: each is a number, and of each only the first pairing is
    asked for again. `run` tells several measurements on one record apart.
    """

    def __init__(self, *, people: int, run: int, runs: int, seed: int) -> None:
        """`people` were loaded before (`preloaded`). Each run may unite its share of them, two and two."""
        self._random = random.Random(seed + run)  # noqa: S311 - it guards nothing
        self._people = people
        share = people // 2 // runs
        self._pairs = iter(range(run * share, (run + 1) * share))
        self._fresh = FRESH + run * CROWD_FRESH_MAX

    def next(self) -> Request:
        """A request to send now. When its share is united, new people come instead."""
        dice = self._random.random()
        kind = next((kind for kind, bound in _BOUNDS if dice < bound), Kind.UNION)
        if kind is Kind.REPEAT:
            return self.repeat()
        if kind is Kind.UNION and (pair := next(self._pairs, None)) is not None:
            return Request(kind, Pairing(PRELOADED + 2 * pair, PRELOADED + 2 * pair + 1))
        self._fresh += 1
        if kind is Kind.NEW_IDENTIFIER:
            return Request(kind, Pairing(self._known(), self._fresh))
        return Request(Kind.NEW_PERSON, Pairing(self._fresh, self._fresh))

    def repeat(self) -> Request:
        """A pairing that was loaded before."""
        return Request(Kind.REPEAT, Pairing(*[self._known()] * 2))

    def acknowledge(self, request: Request) -> None:
        """Nothing is remembered."""

    def _known(self) -> int:
        return PRELOADED + int(self._random.random() * self._people)


class Hotspot:
    """All clients name one family, each time with a partner that is new: what writers cost each other who meet there.
    A family is left for a new one before it is full.
    """

    def __init__(self, *, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - it guards nothing
        self._fresh = HOT
        self._family: Person | None = None
        self._making = False

    def next(self) -> Request:
        """A request to send now. Until the first of a new family is acknowledged, the others go on with the old one."""
        self._fresh += 1
        family = self._family
        if family is None or (family.extra >= HOT_CONTACTS and not self._making):
            self._making = True
            return Request(Kind.NEW_PERSON, Pairing(self._fresh, self._fresh))
        family.extra += 1
        if self._random.random() < 0.5:
            pairing = Pairing(self._random.choice(family.emails), self._fresh)
        else:
            pairing = Pairing(self._fresh, self._random.choice(family.phones))
        return Request(Kind.NEW_IDENTIFIER, pairing, family)

    def acknowledge(self, request: Request) -> None:
        """The request was answered as it should be."""
        _, pairing, family = request
        if family is None:
            self._family, self._making = Person(pairing), False
        else:
            family.learn(pairing)


def preloaded(people: int) -> Iterator[Pairing]:
    """Who is known before the first request."""
    return (Pairing(PRELOADED + i, PRELOADED + i) for i in range(people))


def grown_families(families: int, *, contacts: int, seed: int, first: int = FAMILIES) -> Iterator[Pairing]:
    """Families apart from the mix, `contacts` pairings each, in turn: each pairing after the first ties something new
    to an identifier of its family that chance picks, as sightings of a person would. Their numbers begin at `first`.
    """
    chance = random.Random(seed)  # noqa: S311 - it guards nothing
    for family in range(families):
        start = first + family * contacts
        emails, phones = [start], [start]
        yield Pairing(start, start)
        for fresh in range(start + 1, start + contacts):
            if chance.random() < 0.5:
                yield Pairing(chance.choice(emails), fresh)
                phones.append(fresh)
            else:
                yield Pairing(fresh, chance.choice(phones))
                emails.append(fresh)


def new_pairings(known: Sequence[Pairing], *, count: int, seed: int) -> Iterator[Pairing]:
    """Emails and phones of one family, tied once more by chance: evidence, which makes the family dense."""
    chance = random.Random(seed)  # noqa: S311 - it guards nothing
    emails = sorted({pairing.email for pairing in known})
    phones = sorted({pairing.phone for pairing in known})
    made = set(known)
    for _ in range(count):
        pairing = Pairing(chance.choice(emails), chance.choice(phones))
        if pairing not in made:
            made.add(pairing)
            yield pairing
