"""Which columns of a file hold emails and which phones: by name, by content, or by the caller's choice.

A column with an unknown name that looks like emails or phones is never skipped silently: the file is refused until the
caller maps or ignores that column by name.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final, Self

import msgspec

from nexus_graph.bulk.lines import BadRow, Row, UnclearColumns, UnreadableFile
from nexus_graph.bulk.words import Kind, header, letters

SAMPLED_ROWS: Final = 100
"""Rows at the beginning of a file whose cells decide the kind of a column with an unknown name."""

REJECT_COLUMNS: Final = ("rejected_line", "rejected_column", "rejected_reason")
"""Columns that a file of rejects has before the row's own; an input that has them is a mended file of rejects."""

_NAME_MAX_CHARACTERS: Final = 60
_NAME_MAX_DIGITS: Final = 6
_SUGGESTED_MAX: Final = 8
"""Columns that one error names: options for more do not fit on a command line."""

_KINDS: Final[dict[str, Kind]] = {"email": "email", "phone": "phone", "phonenumber": "phone"}
_EXAMPLE: Final = "email, phone, phoneNumber or phone_number"
_MAP_THEM: Final = "Name them: --map email=COLUMN --map phone=COLUMN"
ARTICLES: Final[dict[Kind, str]] = {"email": "an email", "phone": "a phone"}

_is_email: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+\.[^@\s<>.]{2,}").fullmatch
_is_phone: Final = re.compile(
    r"(?:tel:)?(?:\+|00)[1-9][\d ().\-/]{6,22}|0[\d ().\-/]{8,18}|\(\d{2,5}\)[\d ().\-/]{5,18}"
    r"|\d{3}[-. ]\d{3}[-. ]\d{4}"
).fullmatch
_PHONE_DIGITS: Final = range(8, 16)
# Dates, coordinates and amounts: `_is_phone` matches those that begin like a phone.
_is_date_or_sum: Final = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d+[.,]\d+").fullmatch


class Choice(msgspec.Struct, frozen=True):
    """The caller's choice of columns, each by its name or as `column 3`."""

    mapped: tuple[tuple[Kind, str], ...] = ()
    ignored: tuple[str, ...] = ()

    @classmethod
    def of_options(cls, mapped: Iterable[str], ignored: Iterable[str]) -> Self:
        """From `--map KIND=COLUMN` and `--ignore COLUMN`. Raises UnclearColumns for a --map without kind or column."""
        pairs: list[tuple[Kind, str]] = []
        for option in mapped:
            kind, equals, name = option.partition("=")
            known = _KINDS.get(letters(kind))
            if known is None or not equals or not name.strip():
                raise UnclearColumns('--map takes email=COLUMN or phone=COLUMN, as in --map phone="Phone 1 - Value"')
            pairs.append((known, name))
        return cls(tuple(pairs), tuple(ignored))


NO_CHOICE: Final = Choice()


@dataclass(frozen=True, slots=True)
class Options:
    """How `load` and `import` read a file, and what they do with its faults."""

    choice: Choice = NO_CHOICE
    strict: bool = False
    """Refuse a row for any cell without a value of its kind."""
    dry: bool = False
    """Read and report; send nothing."""
    rejects: Path | None = None


class Columns:
    """The columns of a file by position. The rows of a JSON file may add columns."""

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
        """Add a column and return its position."""
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
        """The column's number for people, from 1; the columns that a file of rejects adds do not count."""
        return place + 1 - len(self.rejects)

    def _put(self, place: int, holds: str) -> None:
        {"email": self.emails, "phone": self.phones}.get(holds, self.unused).append(place)

    @property
    def known(self) -> int:
        """How many columns hold an email or a phone."""
        return len(self.emails) + len(self.phones)

    def look(self, rows: Iterable[Sequence[object]]) -> None:
        """Decide the kind of columns with unknown names by the cells of the first rows."""
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
        """Raises UnclearColumns unless all columns of a CSV file are clear and one holds an email or a phone."""
        self._chosen.check()
        if len(self.names) == 1 and self.unclear:
            raise UnclearColumns(
                f"its first line names one column, {self.shown(0)}: separate fields by commas, semicolons, tabs or "
                f'bars, outside quotes. If the file has one column: --map {self.unclear[0][1]}="{self.shown(0)}"'
            )
        self.check_clear()
        if not self.known:
            raise UnclearColumns(
                f"its first line must name the columns, among them {_EXAMPLE}; it names {self._named()}. {_MAP_THEM}"
            )
        for places in (self.emails, self.phones):
            twice = [place for place in places if self._is_twice(place, places)]
            if twice:
                raise UnclearColumns(
                    f"its header names {self.shown(twice[0])} {len(twice)} times: give each column its own name, or "
                    f'choose columns by number, as in --ignore "column {self._number(twice[0])}"'
                )

    def check_members(self) -> None:
        """Raises UnclearColumns unless the members of a JSON file's first objects are clear."""
        self.check_clear()
        if self.names and not self.known and not self._chosen.awaits_more:
            raise UnclearColumns(
                f"its objects must have members among {_EXAMPLE}; the first ones have {self._named()}. {_MAP_THEM}"
            )

    def check_clear(self) -> None:
        """Raises UnclearColumns if a column with an unknown name looks like an email or a phone."""
        if not self.unclear:
            return
        named = [f"{self.shown(place)} looks like {ARTICLES[kind]}" for place, kind in self.unclear[:_SUGGESTED_MAX]]
        more = len(self.unclear) - len(named)
        place, kind = self.unclear[0]
        raise UnclearColumns(
            f"{', '.join(named)}{f', and {more} more' if more > 0 else ''}: use or leave out each by name, "
            f'as in --map {kind}="{self.shown(place)}" or --ignore "{self.shown(place)}"'
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
        """The name for messages; the number of a column whose name may be a contact's data."""
        name = visible(self.names[place])
        if not name or "@" in name or sum(map(str.isdigit, name)) > _NAME_MAX_DIGITS:
            return f"column {self._number(place)}"
        return name if len(name) <= _NAME_MAX_CHARACTERS else name[: _NAME_MAX_CHARACTERS - 1] + "…"


def sampled(rows: Callable[[], Iterator[Row | BadRow]], columns: Columns) -> Iterator[Row | BadRow]:
    """Decide the kinds of the columns by the first rows. Returns all rows; an error among them keeps its position."""
    first: list[Row | BadRow] = []
    others = rows()
    try:
        first.extend(islice(others, SAMPLED_ROWS))
    except UnreadableFile:
        others = rows()  # `Lines` raises the error again
    columns.look([row.values for row in first if isinstance(row, Row)])
    return chain(first, others)


class _Chosen:
    """The caller's choice, and the parts of it that matched a column."""

    def __init__(self, choice: Choice) -> None:
        self._choices: dict[str, str] = {}
        self._met: set[str] = set()
        for holds, name in (*choice.mapped, *(("neither", name) for name in choice.ignored)):
            key = _spelling(name)
            if self._choices.setdefault(key, holds) != holds:
                raise UnclearColumns(f'"{name}" has two meanings in --map and --ignore: name each column once')

    @property
    def awaits_more(self) -> bool:
        """True if a mapped column has not appeared yet."""
        return any(holds != "neither" and name not in self._met for name, holds in self._choices.items())

    def of(self, name: str, number: int) -> str | None:
        """The caller's choice for a column."""
        for key in (_spelling(name), f"column {number}"):
            if key in self._choices:
                self._met.add(key)
                return self._choices[key]
        return None

    def check(self) -> None:
        """Raises UnclearColumns if a chosen name matches no column."""
        missed = [f'"{name}"' for name in self._choices if name not in self._met]
        if missed:
            raise UnclearColumns(
                f"it has no column {' or '.join(missed)}: --map and --ignore must name columns of the file"
            )


def _spelling(name: str) -> str:
    """A name for comparison: without case, invisible characters and repeated blanks."""
    return " ".join(visible(name).casefold().split())


def visible(name: str) -> str:
    """A column's name without invisible characters, which spreadsheets and web pages leave in headers."""
    kept = (
        character if unicodedata.category(character)[0] != "C" else " " if character in "\t\r\n" else ""
        for character in name
    )
    return " ".join("".join(kept).split())


def _texts(value: object) -> list[str]:
    """The texts in a cell, also inside lists and objects of JSON."""
    if isinstance(value, str):
        text = value.strip().strip("'\"=")
        return [text] if text else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value[:SAMPLED_ROWS] for text in _texts(item)]
    return []


def _kind_of(texts: list[str]) -> Kind | None:
    """The kind that at least half of the texts look like."""
    if texts and 2 * sum(_is_email(text) is not None for text in texts) >= len(texts):
        return "email"
    if texts and 2 * sum(map(_looks_like_phone, texts)) >= len(texts):
        return "phone"
    return None


def _looks_like_phone(text: str) -> bool:
    return (
        _is_phone(text) is not None and _is_date_or_sum(text) is None and sum(map(str.isdigit, text)) in _PHONE_DIGITS
    )
