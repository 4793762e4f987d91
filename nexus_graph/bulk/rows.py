"""The rows of a file of contacts, read as a stream: one at a time, each with the line it begins on.

CSV has a header with `email` and/or `phone`, `phoneNumber`, `phone_number` in any case, and any other columns; JSON
lines have the same keys. Nothing is held but the row at hand. No error text quotes the file.
"""

import codecs
import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec

Field = Literal["email", "phoneNumber"]

_FIELDS: Final[dict[str, Field]] = {
    "email": "email",
    "phone": "phoneNumber",
    "phonenumber": "phoneNumber",
    "phone_number": "phoneNumber",
}
_DELIMITERS: Final = (",", ";", "\t")
_JSON_LINES: Final = frozenset({".jsonl", ".ndjson"})


class UnreadableFile(Exception):
    """The file cannot be read, or not beyond this point. `str()` says where and why."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """What a row says of a contact, as it stands in the file."""

    line: int
    email: object
    phone: object


class BadRow(msgspec.Struct, frozen=True, gc=False):
    """A row that says nothing of a contact. The rows after it can be read."""

    line: int
    reason: str


class Rows:
    """The rows of an open file, for one pass. Raises UnreadableFile where reading must end."""

    def __init__(self, file: Path, stream: BinaryIO, *, line_max_bytes: int) -> None:
        self.size_bytes = file.stat().st_size
        self._lines = _Lines(stream, line_max_bytes)
        self._read = _json_rows if file.suffix.lower() in _JSON_LINES else _csv_rows

    @property
    def position_bytes(self) -> int:
        """How far into the file the rows so far reach."""
        return self._lines.position_bytes

    @property
    def line(self) -> int:
        """The last line that was read."""
        return self._lines.number

    def __iter__(self) -> Iterator[Row | BadRow]:
        return self._read(self._lines)


@contextmanager
def open_rows(file: Path, *, line_max_bytes: int) -> Iterator[Rows]:
    """The rows of a .csv, .jsonl or .ndjson file. Raises UnreadableFile for any other, or one that does not open."""
    if file.suffix.lower() not in {".csv", *_JSON_LINES}:
        raise UnreadableFile("the name must end in .csv, .jsonl or .ndjson")
    try:
        stream = file.open("rb")
    except OSError as error:
        raise UnreadableFile(f"it cannot be opened: {error.strerror}") from None
    with stream:
        yield Rows(file, stream, line_max_bytes=line_max_bytes)


class _Lines:
    """The lines of a UTF-8 file, with or without a byte order mark, counted."""

    def __init__(self, stream: BinaryIO, line_max_bytes: int) -> None:
        self.number = 0
        self.position_bytes = 0
        self._stream = stream
        self._line_max_bytes = line_max_bytes

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = self._stream.readline(self._line_max_bytes + 1)
        except OSError as error:
            raise UnreadableFile(f"line {self.number + 1} cannot be read: {error.strerror}") from None
        if not line:
            raise StopIteration
        self.number += 1
        self.position_bytes += len(line)
        if len(line) > self._line_max_bytes:
            raise UnreadableFile(f"line {self.number} is longer than {self._line_max_bytes} bytes")
        if self.number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise UnreadableFile(f"line {self.number} is not UTF-8: save the file as UTF-8") from None


def _csv_rows(lines: _Lines) -> Iterator[Row | BadRow]:
    delimiter, email, phone = _header(lines)
    # Quoted values may span lines: the reader takes as many as it needs, and no more.
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        line = lines.number + 1
        try:
            values = next(reader, None)
        except csv.Error:
            raise UnreadableFile(f"line {line} is not CSV: is a quote not closed?") from None
        if values is None:
            return
        if values:
            yield Row(line, _value(values, email), _value(values, phone))


def _header(lines: _Lines) -> tuple[str, int | None, int | None]:
    """The delimiter, and the places of email and phone."""
    text = next(lines, None)
    if text is None:
        raise UnreadableFile("it is empty")
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([text], delimiter=delimiter), [])
        except csv.Error:
            continue
        fields = [_FIELDS.get(name.strip().lower()) for name in names]
        for field in ("email", "phoneNumber"):
            if fields.count(field) > 1:
                raise UnreadableFile(f"its header names {field} {fields.count(field)} times")
        if any(fields):
            email, phone = (fields.index(name) if name in fields else None for name in ("email", "phoneNumber"))
            return delimiter, email, phone
    raise UnreadableFile("its first line must name the columns, among them email, phone, phoneNumber or phone_number")


def _value(values: list[str], place: int | None) -> str | None:
    return values[place] if place is not None and place < len(values) else None


def _json_rows(lines: _Lines) -> Iterator[Row | BadRow]:
    for text in lines:
        if not text.isspace():
            yield _json_row(lines.number, text)


def _json_row(line: int, text: str) -> Row | BadRow:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return BadRow(line, "is not JSON")
    if not isinstance(value, dict):
        return BadRow(line, "is not a JSON object")
    found: dict[Field, object] = {}
    for key, item in value.items():
        field = _FIELDS.get(key.strip().lower())
        if field is None or item in (None, ""):
            continue
        if field in found:
            return BadRow(line, f"names {field} twice")
        found[field] = item
    return Row(line, found.get("email"), found.get("phoneNumber"))
