"""The file of rejects: each faulty row, with its line, the column and the reason before its own columns.

The mended file is input again: load and import leave out the added columns.
"""

import csv
import os
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from nexus_graph.bulk.columns import REJECT_COLUMNS
from nexus_graph.bulk.contacts import Fate, Note
from nexus_graph.bulk.json_rows import reject_of
from nexus_graph.bulk.reading import BadRow, Row, UnclearColumns
from nexus_graph.bulk.rows import JSON_LINES

_OWNER_ONLY = 0o600  # the file holds contacts' data


class Rejects:
    """A file that receives faulty rows during a run. An empty file is removed.

    The constructor raises UnclearColumns if the file exists already, or has not the input's format.
    """

    def __init__(self, file: Path, source: Path) -> None:
        if (file.suffix.lower() in JSON_LINES) is not (source.suffix.lower() in JSON_LINES):
            raise UnclearColumns(f"{file} must have the input's format: name it like {source.name}")
        self.rows = 0
        self._file = file
        self._delimiter = ","
        self._added: frozenset[int] = frozenset()
        self._header: list[str] = []
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        except FileExistsError:
            raise UnclearColumns(f"{file} exists already: name another file for the rejects, or move it") from None
        except OSError as error:
            raise UnclearColumns(f"{file} cannot be written: {error.strerror}") from None
        self._stream: TextIO = os.fdopen(descriptor, "w", encoding="utf-8", newline="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if not self.rows:
            self._file.unlink(missing_ok=True)

    def begin(self, names: list[str], added: list[int], delimiter: str) -> None:
        """Set the input's columns; `added` are the positions of the columns that an earlier run added."""
        self._delimiter = delimiter
        self._added = frozenset(added)
        self._header = self._without_added(names)

    def add(self, row: Row | BadRow, notes: list[Note]) -> None:
        """Write one faulty row with its faults. A row with nothing to mend is left out."""
        faults = [note for note in notes if note.fate in (Fate.INVALID, Fate.DROPPED)]
        if not faults:
            return
        columns = ", ".join(dict.fromkeys(note.column for note in faults if note.column is not None))
        reasons = "; ".join(dict.fromkeys(note.reason for note in faults))
        self.rows += 1
        if row.text is not None:
            self._stream.write(f"{reject_of(row.line, columns or None, reasons, row.text)}\n")
            return
        writer = csv.writer(self._stream, delimiter=self._delimiter, lineterminator="\n")
        if self.rows == 1:
            writer.writerow((*REJECT_COLUMNS, *self._header))
        writer.writerow((row.line, columns, reasons, *self._without_added(row.values)))

    def _without_added(self, fields: list[str]) -> list[str]:
        """The row's own fields: the input may be a file of rejects itself."""
        return [field for place, field in enumerate(fields) if place not in self._added]
