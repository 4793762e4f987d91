"""Which columns of a file hold emails and which phones: by their names, by what they hold, or as the caller says.

A column that looks like an email or a phone and is not known to be one is never passed over in silence: the file is
refused until the caller maps it or ignores it by name.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, Self

import msgspec

from nexus_graph.bulk.headers import Kind, header, letters
from nexus_graph.bulk.reading import UnclearColumns

SAMPLED_ROWS: Final = 100
"""Rows at the beginning of a file whose cells tell what an unknown column holds."""

REJECT_COLUMNS: Final = ("rejected_line", "rejected_column", "rejected_reason")
"""What a file of rejects has before the row's own columns; a file that has them is such a one, mended."""

_NAME_MAX_CHARACTERS: Final = 60
_NAME_MAX_DIGITS: Final = 6
_SUGGESTED_MAX: Final = 8
"""Columns that an error names: a command line holds no more."""

_KINDS: Final[dict[str, Kind]] = {"email": "email", "phone": "phone", "phonenumber": "phone"}
_EXAMPLE: Final = "email, phone, phoneNumber or phone_number"
_SAY_WHICH: Final = "Say which they are: --map email=COLUMN --map phone=COLUMN"
ARTICLES: Final[dict[Kind, str]] = {"email": "an email", "phone": "a phone"}

_is_email: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+\.[^@\s<>.]{2,}").fullmatch
_is_phone: Final = re.compile(
    r"(?:tel:)?(?:\+|00)[1-9][\d ().\-/]{6,22}|0[\d ().\-/]{8,18}|\(\d{2,5}\)[\d ().\-/]{5,18}"
    r"|\d{3}[-. ]\d{3}[-. ]\d{4}"
).fullmatch
_PHONE_DIGITS: Final = range(8, 16)
# What a phone is written with that a date, a place or a sum is not: `_is_phone` lets those in that begin as one.
_is_date_or_sum: Final = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d+[.,]\d+").fullmatch


class Choice(msgspec.Struct, frozen=True):
    """What the caller says of columns, each by its name or as `column 3`."""

    mapped: tuple[tuple[Kind, str], ...] = ()
    ignored: tuple[str, ...] = ()

    @classmethod
    def of_options(cls, mapped: Iterable[str], ignored: Iterable[str]) -> Self:
        """From `--map KIND=COLUMN` and `--ignore COLUMN`. Raises UnclearColumns for one that says neither kind."""
        pairs: list[tuple[Kind, str]] = []
        for option in mapped:
            kind, equals, name = option.partition("=")
            known = _KINDS.get(letters(kind))
            if known is None or not equals or not name.strip():
                raise UnclearColumns('--map takes email=COLUMN or phone=COLUMN, as in --map phone="Phone 1 - Value"')
            pairs.append((known, name))
        return cls(tuple(pairs), tuple(ignored))


class Columns:
    """The columns of a file by their places. A JSON file gets more as its rows name more."""

    def __init__(self, choice: Choice, names: Sequence[str] = ()) -> None:
        self.names: list[str] = []
        self.emails: list[int] = []
        self.phones: list[int] = []
        self.unused: list[int] = []
        self.rejects: list[int] = []
        self.unclear: list[tuple[int, Kind]] = []
        self._unknown: list[int] = []
        self._chosen = _Chosen(choice)
        others = frozenset(map(letters, names))
        for name in names:
            self.add(name, others)

    def add(self, name: str, others: frozenset[str] = frozenset()) -> int:
        """One more column; its place."""
        place = len(self.names)
        self.names.append(name)
        chosen = self._chosen.of(name, self._number(place))
        if name in REJECT_COLUMNS:
            self.rejects.append(place)
        elif chosen is not None:
            self._put(place, chosen)
        else:
            says, kind = header(name, others)
            if says == "unclear":
                assert kind is not None
                self.unclear.append((place, kind))
            elif says == "unknown":
                self._unknown.append(place)
                self.unused.append(place)
            else:
                self._put(place, says)
        return place

    def _number(self, place: int) -> int:
        """By which people count it. What a file of rejects has before the row's own columns does not count."""
        return place + 1 - len(self.rejects)

    def _put(self, place: int, holds: str) -> None:
        {"email": self.emails, "phone": self.phones}.get(holds, self.unused).append(place)

    @property
    def known(self) -> int:
        """How many columns hold an email or a phone."""
        return len(self.emails) + len(self.phones)

    def look(self, rows: Iterable[Sequence[object]]) -> None:
        """Judge the columns whose names say nothing by what the first rows hold."""
        cells: dict[int, list[str]] = {place: [] for place in self._unknown}
        for row in rows:
            for place in self._unknown:
                if place < len(row):
                    cells[place] += _texts(row[place])
        for place in self._unknown:
            kind = _kind_of(cells[place])
            if kind is not None:
                self.unused.remove(place)
                self.unclear.append((place, kind))

    def check_header(self) -> None:
        """Raises UnclearColumns unless a CSV file's columns are all understood, and one holds an email or a phone."""
        self._chosen.check()
        if len(self.names) == 1 and self.unclear:
            raise UnclearColumns(
                f"its first line names one column, {self.shown(0)}: commas, semicolons, tabs or bars must stand "
                f'between fields, outside quotes. If there is one indeed: --map {self.unclear[0][1]}="{self.shown(0)}"'
            )
        self.check_clear()
        if not self.known:
            raise UnclearColumns(
                f"its first line must name the columns, among them {_EXAMPLE}; it names {self._named()}. {_SAY_WHICH}"
            )
        for places in (self.emails, self.phones):
            twice = [place for place in places if self._is_twice(place, places)]
            if twice:
                raise UnclearColumns(
                    f"its header names {self.shown(twice[0])} {len(twice)} times: give them names of their own, or say "
                    f'which they are by their places, as in --ignore "column {self._number(twice[0])}"'
                )

    def check_members(self) -> None:
        """Raises UnclearColumns unless the members of a JSON file's first objects are understood."""
        self.check_clear()
        if self.names and not self.known and not self._chosen.awaits_more:
            raise UnclearColumns(
                f"its objects must have members among {_EXAMPLE}; the first ones have {self._named()}. {_SAY_WHICH}"
            )

    def check_clear(self) -> None:
        """Raises UnclearColumns if one looks like an email or a phone and is not known to be."""
        if not self.unclear:
            return
        said = [f"{self.shown(place)} looks like {ARTICLES[kind]}" for place, kind in self.unclear[:_SUGGESTED_MAX]]
        more = len(self.unclear) - len(said)
        place, kind = self.unclear[0]
        raise UnclearColumns(
            f"{', '.join(said)}{f', and {more} more' if more > 0 else ''}: say of each whether it is to be used "
            f'or left out, as in --map {kind}="{self.shown(place)}" or --ignore "{self.shown(place)}"'
        )

    def _named(self) -> str:
        names = [self.shown(place) for place in range(min(len(self.names), _SUGGESTED_MAX))]
        return ", ".join(names) + (", …" if len(self.names) > len(names) else "")

    def _is_twice(self, place: int, places: list[int]) -> bool:
        name = self.names[place].casefold()
        return self._chosen.of(self.names[place], self._number(place)) is None and any(
            other != place and self.names[other].casefold() == name for other in places
        )

    def shown(self, place: int) -> str:
        """The name as it may be printed: a header that holds somebody's data is no name."""
        name = visible(self.names[place])
        if not name or "@" in name or sum(map(str.isdigit, name)) > _NAME_MAX_DIGITS:
            return f"column {self._number(place)}"
        return name if len(name) <= _NAME_MAX_CHARACTERS else name[: _NAME_MAX_CHARACTERS - 1] + "…"


class _Chosen:
    """The caller's choice, and which of it met a column."""

    def __init__(self, choice: Choice) -> None:
        self._choices: dict[str, str] = {}
        self._met: set[str] = set()
        for holds, name in (*choice.mapped, *(("neither", name) for name in choice.ignored)):
            key = _spelling(name)
            if self._choices.setdefault(key, holds) != holds:
                raise UnclearColumns(f'"{name}" is named twice, for different things')

    @property
    def awaits_more(self) -> bool:
        """True if a column that was mapped has not come yet."""
        return any(holds != "neither" and name not in self._met for name, holds in self._choices.items())

    def of(self, name: str, number: int) -> str | None:
        """What the caller says of a column."""
        for key in (_spelling(name), f"column {number}"):
            if key in self._choices:
                self._met.add(key)
                return self._choices[key]
        return None

    def check(self) -> None:
        """Raises UnclearColumns if a name is no column's."""
        missed = [f'"{name}"' for name in self._choices if name not in self._met]
        if missed:
            raise UnclearColumns(
                f"it has no column {' and none '.join(missed)}: --map and --ignore name columns that it has"
            )


def _spelling(name: str) -> str:
    """As people type a name: without case, and without what cannot be seen."""
    return " ".join(visible(name).casefold().split())


def visible(name: str) -> str:
    """A header's name without the characters that cannot be seen, which spreadsheets and web pages leave in it."""
    kept = (
        character if unicodedata.category(character)[0] != "C" else " " if character in "\t\r\n" else ""
        for character in name
    )
    return " ".join("".join(kept).split())


def _texts(value: object) -> list[str]:
    """The texts in a cell; a JSON value may hold others."""
    if isinstance(value, str):
        text = value.strip().strip("'\"=")
        return [text] if text else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value[:SAMPLED_ROWS] for text in _texts(item)]
    return []


def _kind_of(texts: list[str]) -> Kind | None:
    """What most of the texts look like."""
    if texts and 2 * sum(_is_email(text) is not None for text in texts) >= len(texts):
        return "email"
    if texts and 2 * sum(map(_looks_like_phone, texts)) >= len(texts):
        return "phone"
    return None


def _looks_like_phone(text: str) -> bool:
    return (
        _is_phone(text) is not None and _is_date_or_sum(text) is None and sum(map(str.isdigit, text)) in _PHONE_DIGITS
    )
