"""The contacts of a file: the pairs of an email and a phone that a row gives to identify, and the row's faults.

A row with several emails or phones becomes several pairs that share the first of each, so all end in one family. A row
with several emails and no phone cannot tie them, as identify ties an email to a phone: each is sent alone, with a note.

A cell without a valid email or phone is dropped and the rest of its row is sent: half of a contact is better than none,
and the mended row ties the missing value later. `strict` refuses such a row instead.

A cell may hold several values, or a word, a mark or zeros for "no value": N/A. `normalize` reads the forms in which
spreadsheets write a value (`'+1…`, `="+1…"`, `447900901001.0`, `4.47901E+11`): people paste these forms everywhere.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from nexus_graph.bulk.columns import Columns
from nexus_graph.bulk.lines import BadRow, Row
from nexus_graph.bulk.rows import Rows
from nexus_graph.bulk.words import NO_VALUE, Kind
from nexus_graph.errors import InvalidIdentifier
from nexus_graph.identifiers.normalize import NO_IDENTIFIER, Written, identify_request
from nexus_graph.identifiers.normalize import email as canonical_email
from nexus_graph.identifiers.phone_number import phone as canonical_phone

Pair = tuple[str | None, str | None]
"""An email and a phone in canonical form; one of them may be absent."""

# Most cells match one of these. Such values need no cleaning, and a row of two is read in half the time.
_is_plain_email: Final = re.compile(r"[^'=:;\s@][^:;\s@]*@[^:;\s@]+").fullmatch
_is_plain_phone: Final = re.compile(r"\+?[1-9][0-9]+").fullmatch

_BETWEEN_VALUES: Final[dict[Kind, tuple[str, ...]]] = {"email": (":::", ";"), "phone": (":::",)}
"""Separators of several values in a cell, which no value contains: Google Contacts colons, HubSpot semicolons."""
_is_zeros: Final = re.compile(r"[+\s().\-/]*0[0\s().\-/]*").fullmatch


class Fate(StrEnum):
    """What happened to the row, cell or value that a note describes."""

    INVALID = "invalid"
    """The row was not sent."""
    DROPPED = "dropped"
    """A cell was left out; the rest of its row is in."""
    EMPTY = "empty"
    """A cell says that it has no value: N/A, zeros."""
    SHORTENED = "shortened"
    """A part of a value was removed, such as an extension; the value is in."""
    UNTIED = "untied"
    """The row's values are in, each in its own family unless something else ties them."""


class Note(msgspec.Struct, gc=False):
    """A remark about a row, for the summary and the file of rejects."""

    fate: Fate
    line: int
    column: str | None
    reason: str


class Contact(msgspec.Struct, gc=False):
    """A row: its pairs for identify, and the notes about it."""

    line: int
    pairs: list[Pair]
    """Empty for a row that is not sent."""
    notes: list[Note]
    row: Row | BadRow | None = None


_NO_NOTES: Final[list[Note]] = []


def read_contacts(rows: Rows, *, region: str | None, strict: bool) -> Iterator[Contact]:
    """The contacts of the rows, in order. Raises the errors of `rows`."""
    columns = rows.columns
    plain = len(columns.emails) == len(columns.phones) == 1
    email, phone = (columns.emails[0], columns.phones[0]) if plain else (0, 0)
    for row in rows:
        if plain and type(row) is Row and row.text is None:  # rows of JSON may add columns
            values = row.values
            try:
                if _is_plain_email(values[email]) and _is_plain_phone(values[phone]):
                    request = identify_request(values[email], values[phone], region=region, request_id=None)
                    yield Contact(row.line, [(request.email, request.phone)], _NO_NOTES, row)
                    continue
            except (InvalidIdentifier, TypeError):
                pass
        if isinstance(row, Row):
            yield _contact(row, columns, region, strict=strict)
        else:
            yield Contact(row.line, [], [Note(Fate.INVALID, row.line, None, row.reason)], row)


def _contact(row: Row, columns: Columns, region: str | None, *, strict: bool) -> Contact:
    reading = _Reading(row, columns, region)
    emails, phones, notes = reading.emails, reading.phones, reading.notes
    lacking = any(note.fate in (Fate.DROPPED, Fate.EMPTY) for note in notes)
    if (strict and lacking) or not (emails or phones):
        return Contact(row.line, [], _refusal(row.line, notes, strict=strict), row)
    if len(emails) + len(phones) > 1 and not (emails and phones):
        named, missing = ("emails", "phone") if emails else ("phones", "email")
        reason = f"names several {named} and no {missing} that would tie them"
        notes.append(Note(Fate.UNTIED, row.line, ", ".join(reading.named), reason))
    return Contact(row.line, _pairs(emails, phones), notes, row)


class _Reading:
    """The cells of one row."""

    def __init__(self, row: Row, columns: Columns, region: str | None) -> None:
        self.notes: list[Note] = []
        self.named: dict[str, None] = {}
        """The columns that hold values."""
        self._row = row
        self._columns = columns
        self._region = region
        self.emails = self._values("email", columns.emails)
        self.phones = self._values("phone", columns.phones)

    def _values(self, kind: Kind, places: list[int]) -> list[str]:
        found: dict[str, None] = {}
        for place in places:
            if place < len(self._row.values):  # a column that a later row added is not in this row
                for part in _parts(self._row.values[place], kind):
                    value = self._value(part, kind, place)
                    if value is not None:
                        found[value] = None
                        self.named[self._columns.shown(place)] = None
        return list(found)

    def _value(self, part: object, kind: Kind, place: int) -> str | None:
        try:
            meant = _meaning(part, kind)
            if meant is None:
                self._note(Fate.EMPTY, place, f"says that there is no {kind}")
                return None
            if kind == "email":
                return canonical_email(meant)
            phone, removed = canonical_phone(meant, self._region)
        except InvalidIdentifier as error:
            self._note(Fate.DROPPED, place, error.message)
            return None
        for _, removed_part in removed:
            self._note(Fate.SHORTENED, place, f"the {removed_part} is no part of the phone")
        return phone

    def _note(self, fate: Fate, place: int, reason: str) -> None:
        self.notes.append(Note(fate, self._row.line, self._columns.shown(place), reason))


def _parts(cell: object, kind: Kind) -> list[object]:
    """The values in a cell: none, one, or several between separators."""
    if isinstance(cell, str):
        texts = [cell]
        for mark in _BETWEEN_VALUES[kind]:
            texts = [text for whole in texts for text in whole.split(mark)]
        return [text for text in map(str.strip, texts) if text]
    if isinstance(cell, list):
        return [part for item in cell for part in ([item] if isinstance(item, list) else _parts(item, kind))]
    return [] if cell is None else [cell]


def _meaning(part: object, kind: Kind) -> object:
    """The part unchanged; None if the part means "no value"."""
    if isinstance(part, bool):
        return part
    text = part.text if isinstance(part, Written) else str(part) if isinstance(part, int) else part
    if not isinstance(text, str):
        return part
    if not any(map(str.isalnum, text)) or text.casefold() in NO_VALUE:
        return None
    return None if kind == "phone" and _is_zeros(text) else part


def _pairs(emails: list[str], phones: list[str]) -> list[Pair]:
    """The fewest pairs that tie all values: each value with the first of the other kind."""
    if not emails:
        return [(None, phone) for phone in phones]
    first_phone = phones[0] if phones else None
    pairs: list[Pair] = [(email, first_phone) for email in emails]
    pairs += [(emails[0], phone) for phone in phones[1:]]
    return pairs


def _refusal(line: int, notes: list[Note], *, strict: bool) -> list[Note]:
    """The notes, with one note for all reasons to refuse the row. An empty cell is a reason only with `strict`."""
    counting = (Fate.DROPPED, Fate.EMPTY) if strict else (Fate.DROPPED,)
    reasons = [note for note in notes if note.fate in counting]
    others = [note for note in notes if note not in reasons]
    columns = ", ".join(dict.fromkeys(note.column for note in reasons if note.column is not None))
    reason = "; ".join(dict.fromkeys(note.reason for note in reasons))
    return [*others, Note(Fate.INVALID, line, columns or None, reason or NO_IDENTIFIER)]
