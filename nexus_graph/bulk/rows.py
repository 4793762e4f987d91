"""The rows of a file of contacts, read as a stream: one at a time, each with the line it begins on.

CSV has a header; JSON lines have the same names as keys. Memory holds the current row and, to decide the kinds of
columns, the first hundred rows. No error text quotes a row.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from nexus_graph.bulk.columns import NO_CHOICE, Choice
from nexus_graph.bulk.csv_rows import CsvRows
from nexus_graph.bulk.json_rows import JsonRows
from nexus_graph.bulk.lines import BadRow, Lines, Row, UnreadableFile

LINE_MAX_BYTES: Final = 64 * 1024
"""Bytes of a line of a file: as much as a request's body may have."""

_CSV: Final = frozenset({".csv", ".tsv"})
JSON_LINES: Final = frozenset({".jsonl", ".ndjson"})
_HINTS: Final = {
    ".json": ": write one object a line",
    ".gz": ": unpack it first",
    ".zip": ": unpack it first",
    ".xlsx": ": save the sheet as CSV UTF-8",
    ".xls": ": save the sheet as CSV UTF-8",
    ".ods": ": save the sheet as CSV, in UTF-8",
    ".numbers": ": export the table as CSV, in UTF-8",
    ".vcf": ": export the contacts as CSV",
}


class Understood(msgspec.Struct, frozen=True):
    """How a file is read: its format, and the names of its columns by their use."""

    form: str
    emails: list[str]
    phones: list[str]
    unused: list[str]


class Layout(msgspec.Struct, frozen=True):
    """What a file of rejects repeats of its input."""

    names: list[str]
    added: list[int]
    """The positions of the columns that an earlier file of rejects has before the row's own."""
    delimiter: str


class Rows:
    """The rows of an open file, for one pass. Raises UnreadableFile where reading must end."""

    def __init__(self, file: Path, stream: BinaryIO, line_max_bytes: int, choice: Choice) -> None:
        self.size_bytes = file.stat().st_size
        self._lines = Lines(stream, line_max_bytes)
        self._rows = (JsonRows if file.suffix.lower() in JSON_LINES else CsvRows)(self._lines, choice)
        self.columns = self._rows.columns
        self.layout = Layout(self.columns.names, self.columns.rejects, self._rows.delimiter)

    @property
    def position_bytes(self) -> int:
        """How far into the file the rows so far reach."""
        return self._lines.position_bytes

    @property
    def understood(self) -> Understood:
        """How the file is read."""
        columns = self.columns
        emails, phones, unused = (
            [columns.shown(place) for place in places] for places in (columns.emails, columns.phones, columns.unused)
        )
        return Understood(self._rows.form, emails, phones, unused)

    def __iter__(self) -> Iterator[Row | BadRow]:
        return iter(self._rows)


@contextmanager
def open_rows(file: Path, choice: Choice = NO_CHOICE, *, line_max_bytes: int = LINE_MAX_BYTES) -> Iterator[Rows]:
    """The rows of a .csv, .tsv, .jsonl or .ndjson file. Raises UnreadableFile for another name, a file that does not
    open, and unclear columns.
    """
    suffix = file.suffix.lower()
    if suffix not in _CSV | JSON_LINES:
        raise UnreadableFile(f"the name must end in .csv, .tsv, .jsonl or .ndjson{_HINTS.get(suffix, '')}")
    try:
        stream = file.open("rb")
    except OSError as error:
        raise UnreadableFile(f"it cannot be opened: {error.strerror}") from None
    with stream:
        yield Rows(file, stream, line_max_bytes, choice)
