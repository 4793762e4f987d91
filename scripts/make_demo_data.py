"""Make nexus_graph/demo/events.csv: half a year of contact events at seven invented shops, the same for every run.

    python scripts/make_demo_data.py [FILE]

Nobody in it exists. Domains are under .example or are example.com, .net and .org (RFC 2606); phone numbers come from
ranges that regulators keep for fiction: Ofcom's drama numbers, 555-0100 to 555-0199 in North America, ARCEP's, the
Bundesnetzagentur's and PTS's numbers for films, ACMA's for radio and television. There are no typing errors, but the
same address or number is now and then written another way, as people do.
"""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final, TypeVar

Choice = TypeVar("Choice")

FILE: Final = Path(__file__).parent.parent / "nexus_graph" / "demo" / "events.csv"
HEADER: Final = ("at", "shop", "event", "email", "phoneNumber")
SEED: Final = 20260105
HOUSEHOLDS: Final = 410
OFFICES: Final = 9
FIRST_DAY: Final = datetime(2026, 1, 5, 7, 0, tzinfo=UTC)
DAYS: Final = 200
REPEATED: Final = 0.12
"""Share of the events that come a second time, word for word: a reordered basket, a form sent twice."""

GIVEN: Final = (  # noqa: SIM905 - a list of names, not of quotation marks
    "Amara Tomas Ines Ruben Priya Jonas Mei Kofi Leila Oskar Sofia Hugo Nadia Felix Aisha Bruno Clara Dmitri "
    "Elena Farid Greta Hassan Ida Jamal Keiko Lars Maya Nikolai Olive Pavel Quinn Rosa Samir Tessa Umar Vera "
    "Wanda Xavier Yara Zoe Anton Beatriz Caleb Dora Emil Freya Gideon Hana Ivo Juno Kirsten Lionel Marisol Noor "
    "Otis Petra Rafael Signe Thandi Viktor Alma Basil Cora Dario Edda Fabian"
).split()
SURNAMES: Final = (  # noqa: SIM905 - a list of names, not of quotation marks
    "Okafor Bell Lindqvist Raman Ferreira Novak Tanaka Mensah Haddad Berg Moreau Castellan Petrov Whitlock Abara "
    "Silva Keller Osei Marchetti Dvorak Sundar Holloway Yilmaz Brandt Quist Adeyemi Laurent Fischer Nakamura "
    "Rourke Salazar Thorne Ivanova Greene Bauer Chaudhry Delgado Eriksen Fontaine Grimaldi Hartley Ibarra Jansen "
    "Kaplan Lorimer Mbeki Nyberg Ortega Pascal Rahman Sorensen Tremblay Underhill Vasquez Winslow Yamada Zeller "
    "Ashdown Barros Corrigan Draper Ellery Faulkner Gallo"
).split()
SHOPS: Final = (
    "Hollow Oak Books",
    "Tidewater Ceramics",
    "Northlight Bicycles",
    "Saltmarsh Records",
    "Juniper Lane Flowers",
    "Marrow Street Bakery",
    "Copper Kettle Teas",
)
PROVIDERS: Final = ("example.com", "example.com", "example.org", "example.net")
EMPLOYERS: Final = (
    "fenwick-harbour.example",
    "bluestone-clinic.example",
    "alder-and-ash.example",
    "meridian-press.example",
    "thistledown-hotel.example",
    "kingfisher-rail.example",
    "orchard-primary.example",
    "lumen-studio.example",
    "greywater-surveys.example",
)
LANDLINE_AREAS: Final = ("20 7946 0", "113 496 0", "117 496 0", "131 496 0", "151 496 0", "161 496 0", "29 2018 0")
NORTH_AMERICAN_AREAS: Final = (212, 312, 415, 416, 503, 514, 604, 617, 646, 718, 773, 919)


class Dice(Random):
    """Chances built on `random()` alone, whose sequence Python keeps from version to version."""

    def number(self, below: int) -> int:
        return int(self.random() * below)

    def one_of(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.number(len(choices))]

    def shuffled(self, choices: Sequence[Choice]) -> list[Choice]:
        return [choice for _, _, choice in sorted((self.random(), place, c) for place, c in enumerate(choices))]

    def happens(self, probability: float) -> bool:
        return self.random() < probability


@dataclass(frozen=True, slots=True)
class Event:
    """A moment at which somebody left an email, a phone number or both. `day` counts from FIRST_DAY."""

    day: float
    shop: str
    kind: str
    email: str
    phone: str


@dataclass
class World:
    """What has been given out, so that nobody gets it twice."""

    dice: Dice
    mobiles: list[str]
    landlines: list[str]
    emails: set[str] = field(default_factory=set)

    def email(self, given: str, surname: str, domain: str) -> str:
        given, surname = given.lower(), surname.lower()
        forms = [f"{given}.{surname}", f"{given[0]}.{surname}", f"{given}{surname[0]}", f"{surname}.{given}"]
        tries = iter([*self.dice.shuffled(forms[:3]), forms[3], *(f"{given}.{surname}{n}" for n in range(2, 100))])
        email = next(e for local in tries if (e := f"{local}@{domain}") not in self.emails)
        self.emails.add(email)
        return email


@dataclass(frozen=True)
class Person:
    """Somebody with a name and the ways to reach them, in the order in which they came by them."""

    emails: list[str]
    mobiles: list[str]


def main() -> int:
    """Write the file. Returns 0."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_text(demo_data(), encoding="utf-8", newline="")
    print(f"{file}: {len(file.read_text(encoding='utf-8').splitlines()) - 1} events")
    return 0


def demo_data() -> str:
    """The text of the file."""
    dice = Dice(SEED)
    world = World(dice, dice.shuffled(_mobiles()), dice.shuffled(_landlines()))
    events = [*_planted()]
    world.emails.update(event.email for event in events)
    for _ in range(HOUSEHOLDS):
        events += _household(world)
    for employer in EMPLOYERS[:OFFICES]:
        events += _office(world, employer)
    events += [
        Event(event.day + 0.5 + 6 * dice.random(), event.shop, event.kind, event.email, event.phone)
        for event in events
        if dice.happens(REPEATED)
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for event in sorted(events, key=lambda event: event.day):
        at = FIRST_DAY + timedelta(minutes=int(event.day * 24 * 60))
        email, phone = _as_written_email(dice, event.email), _as_written_phone(dice, event.phone)
        writer.writerow((f"{at:%Y-%m-%dT%H:%MZ}", event.shop, event.kind, email, phone))
    return text.getvalue()


def _household(world: World) -> Iterator[Event]:
    """One to four people under a roof; some share a telephone."""
    dice = world.dice
    size = dice.one_of((1, 1, 1, 2, 2, 2, 3, 4))
    surname = dice.one_of(SURNAMES)
    shared = world.landlines.pop() if size > 1 and dice.happens(0.4) else None
    for _ in range(size):
        given = dice.one_of(GIVEN)
        events = list(dice.one_of(_STORIES)(world, given, surname))
        yield from events
        emails = [event.email for event in events if event.email]
        if shared is not None and emails:
            yield _event(dice, "delivery", emails[0], shared)


def _office(world: World, employer: str) -> Iterator[Event]:
    """Colleagues who order with their own address and the number of the front desk."""
    desk = world.landlines.pop()
    for _ in range(4 + world.dice.number(6)):
        email = world.email(world.dice.one_of(GIVEN), world.dice.one_of(SURNAMES), employer)
        yield _event(world.dice, "delivery", email, desk)
        if world.dice.happens(0.3):
            yield _event(world.dice, "order", email, world.mobiles.pop())


def _regular(world: World, given: str, surname: str) -> Iterator[Event]:
    """One address, one mobile, for ever."""
    email, mobile = world.email(given, surname, world.dice.one_of(PROVIDERS)), world.mobiles.pop()
    yield _event(world.dice, "order", email, mobile)
    for _ in range(world.dice.number(4)):
        kind = world.dice.one_of(("order", "newsletter", "call", "warranty"))
        yield _event(world.dice, kind, "" if kind == "call" else email, "" if kind == "newsletter" else mobile)


def _collector(world: World, given: str, surname: str) -> Iterator[Event]:
    """An address for every purpose, one mobile."""
    mobile = world.mobiles.pop()
    for domain in world.dice.shuffled((*PROVIDERS[1:], world.dice.one_of(EMPLOYERS)))[: 2 + world.dice.number(3)]:
        email = world.email(given, surname, domain)
        yield _event(world.dice, "order", email, mobile)
        if world.dice.happens(0.4):
            yield _event(world.dice, "newsletter", email, "")


def _mover(world: World, given: str, surname: str) -> Iterator[Event]:
    """Changes the address, then the number, then the address: each event knows only its neighbours."""
    email, mobile = world.email(given, surname, PROVIDERS[0]), world.mobiles.pop()
    day = DAYS / 3 * world.dice.random()
    for step in range(3 + world.dice.number(3)):
        yield _event(world.dice, "order", email, mobile, day=day)
        day += 8 + 14 * world.dice.random()
        if step % 2:
            mobile = world.mobiles.pop()
        else:
            email = world.email(given, surname, world.dice.one_of((*PROVIDERS, *EMPLOYERS)))


def _two_lives(world: World, given: str, surname: str) -> Iterator[Event]:
    """Known at home and known at work, until one order names both."""
    dice = world.dice
    home = Person([world.email(given, surname, d) for d in PROVIDERS[1 : 2 + dice.number(2)]], [world.mobiles.pop()])
    work = Person([world.email(given, surname, dice.one_of(EMPLOYERS))], [world.mobiles.pop()])
    for life in (home, work):
        for email in life.emails:
            yield _event(dice, "order", email, life.mobiles[0], day=0.7 * DAYS * dice.random())
    if dice.happens(0.8):
        yield _event(dice, "order", work.emails[0], home.mobiles[0], day=DAYS * (0.7 + 0.3 * dice.random()))


def _reader(world: World, given: str, surname: str) -> Iterator[Event]:
    """Only ever gave an address."""
    email = world.email(given, surname, world.dice.one_of(PROVIDERS))
    for _ in range(1 + world.dice.number(3)):
        yield _event(world.dice, "newsletter", email, "")


def _caller(world: World, given: str, surname: str) -> Iterator[Event]:
    """Only ever called; one day, perhaps, gave an address too."""
    mobile = world.mobiles.pop()
    yield _event(world.dice, "call", "", mobile, day=0.5 * DAYS * world.dice.random())
    if world.dice.happens(0.5):
        email = world.email(given, surname, world.dice.one_of(PROVIDERS))
        yield _event(world.dice, "order", email, mobile, day=DAYS * (0.5 + 0.5 * world.dice.random()))


_STORIES: Final = (
    *(_regular,) * 9,
    *(_collector,) * 4,
    *(_mover,) * 3,
    *(_two_lives,) * 3,
    *(_reader,) * 2,
    _caller,
)


def _planted() -> Iterator[Event]:
    """The three families that `nexus-graph demo` shows: a chain, a union, a shared telephone."""
    yield from _on_days(
        (6, "order", "priya.raman@example.com", "+447700900461"),
        (31, "order", "priya.raman@lumen-studio.example", "+447700900461"),
        (58, "warranty", "priya.raman@lumen-studio.example", "+442079460182"),
        (97, "order", "hello@ramanceramics.example", "+442079460182"),
        (140, "order", "hello@ramanceramics.example", "+447700900718"),
        (171, "call", "", "+447700900718"),
    )
    yield from _on_days(
        (11, "order", "jonas@lindqvist.example", "+46701740612"),
        (24, "newsletter", "jonas@lindqvist.example", ""),
        (49, "order", "jonas.l@example.net", "+46701740612"),
        (19, "order", "jonas@kingfisher.example", "+46846500421"),
        (63, "delivery", "depot@kingfisher.example", "+46846500421"),
        (88, "order", "jonas@kingfisher.example", "+46701740698"),
        (152, "order", "jonas@lindqvist.example", "+46846500421"),
    )
    yield from _on_days(
        (9, "delivery", "amara.okafor@example.com", "+441134960127"),
        (22, "delivery", "tomas.bell@example.org", "+441134960127"),
        (40, "order", "amara.okafor@example.com", "+447700900233"),
        (75, "delivery", "ines.bell@example.net", "+441134960127"),
        (112, "order", "tomas.bell@bluestone-clinic.example", "+441134960127"),
        (133, "call", "", "+441134960127"),
    )


def _on_days(*events: tuple[float, str, str, str]) -> Iterator[Event]:
    for place, (day, kind, email, phone) in enumerate(events):
        yield Event(day, SHOPS[place % len(SHOPS)], kind, email, phone)


def _event(dice: Dice, kind: str, email: str, phone: str, *, day: float | None = None) -> Event:
    return Event(DAYS * dice.random() if day is None else day, dice.one_of(SHOPS), kind, email, phone)


def _mobiles() -> list[str]:
    return [
        *(f"+44 7700 900{n:03}" for n in range(1000) if n not in _PLANTED_MOBILES),
        *(f"+1 {area} 555 01{n:02}" for area in NORTH_AMERICAN_AREAS for n in range(100)),
        *(f"+33 6 39 98 {n // 100:02} {n % 100:02}" for n in range(250)),
        *(f"+61 2 7010 {n:04}" for n in range(150)),
    ]


def _landlines() -> list[str]:
    return [
        *(f"+44 {area}{n:03}" for area in LANDLINE_AREAS for n in range(200, 260)),
        *(f"+49 30 23125{n:03}" for n in range(40)),
        *(f"+46 8 465 004 {n:02}" for n in range(30, 70)),
    ]


_PLANTED_MOBILES: Final = frozenset({233, 461, 718})


def _as_written_email(dice: Dice, email: str) -> str:
    return email.title() if dice.happens(0.04) else email


def _as_written_phone(dice: Dice, phone: str) -> str:
    return phone if dice.happens(0.08) else phone.replace(" ", "")


if __name__ == "__main__":
    sys.exit(main())
