"""The file of rejects: each faulty row, with its line, the column and the reason before its own columns.

The mended file is input again: load and import leave out the added columns.
"""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from nexus_graph.bulk.columns import REJECT_COLUMNS
from nexus_graph.bulk.contacts import Fate, Note
from nexus_graph.bulk.json_rows import reject_of
from nexus_graph.bulk.lines import BadRow, Row, UnclearColumns
from nexus_graph.bulk.rows import JSON_LINES, Layout
from nexus_graph.bulk.summary import Summary

_OWNER_ONLY = 0o600  # the file holds contacts' data


@contextmanager
def open_rejects(file: Path | None, source: Path, layout: Layout, summary: Summary) -> Iterator["Rejects | None"]:
    """The new file of rejects, if requested; an empty file is removed. The summary gets its number of rows.

    Raises UnclearColumns if the file exists already, or has not the input's format.
    """
    if file is None:
        yield None
        return
    if (file.suffix.lower() in JSON_LINES) is not (source.suffix.lower() in JSON_LINES):
        raise UnclearColumns(f"{file} must have the input's format: name it like {source.name}")
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError:
        raise UnclearColumns(f"{file} exists already: name another file for the rejects, or move it") from None
    except OSError as error:
        raise UnclearColumns(f"{file} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
        rejects = Rejects(stream, layout)
        try:
            yield rejects
        finally:
            summary.rejected = rejects.rows
            if rejects.rows:
                summary.rejects = str(file)
            else:
                file.unlink(missing_ok=True)


class Rejects:
    """A file that receives faulty rows during a run."""

    def __init__(self, stream: TextIO, layout: Layout) -> None:
        self.rows = 0
        self._stream = stream
        self._layout = layout

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
        writer = csv.writer(self._stream, delimiter=self._layout.delimiter, lineterminator="\n")
        if self.rows == 1:
            writer.writerow((*REJECT_COLUMNS, *self._without_added(self._layout.names)))
        writer.writerow((row.line, columns, reasons, *self._without_added(row.values)))

    def _without_added(self, fields: list[str]) -> list[str]:
        """The row's own fields: the input may be a file of rejects itself."""
        return [field for place, field in enumerate(fields) if place not in self._layout.added]
