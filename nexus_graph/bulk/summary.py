"""The result of a run over a file: counts, rules, names of columns, line numbers; never an identifier."""

from collections import Counter
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from nexus_graph.bulk.contacts import Note
from nexus_graph.bulk.rows import Understood
from nexus_graph.model import Outcome

LINES_SHOWN: Final = 5
"""Line numbers that the summary gives for each kind of fault."""

KINDS_MAX: Final = 200
"""Kinds of faults counted separately: a file exceeds this bound only if its reasons contain data."""
OTHER_KINDS: Final = "other reasons"

FAULTS: Final = {
    "invalid": "rows left out",
    "dropped": "cells left out, the rest of their rows is in",
    "empty": "cells that say there is no value",
    "shortened": "values that are in without a part of them",
    "untied": "rows of several values, each in alone",
    "failed": "rows that the record refused",
}
"""The faults of a summary, by the names of its fields: the fates of notes, and rows that failed."""


@dataclass
class Fault:
    """Rows or cells that were not sent, or that the record refused, for one reason."""

    rows: int = 0
    first_lines: list[int] = field(default_factory=list)


class Faults(dict[tuple[str, str | None], Fault]):
    """Faults by reason and column, in the order of their first rows."""

    @property
    def rows(self) -> int:
        """The rows of all faults."""
        return sum(fault.rows for fault in self.values())

    def add(self, reason: str, line: int, column: str | None = None) -> None:
        """Count a row under its reason and column."""
        key = (reason, column)
        if key not in self and len(self) >= KINDS_MAX:
            key = (OTHER_KINDS, None)
        fault = self.setdefault(key, Fault())
        fault.rows += 1
        if len(fault.first_lines) < LINES_SHOWN:
            fault.first_lines.append(line)

    def listed(self) -> list[dict[str, Any]]:
        """The faults for JSON."""
        return [
            {"reason": reason, "column": column, "rows": fault.rows, "firstLines": fault.first_lines}
            for (reason, column), fault in self.items()
        ]


@dataclass
class Summary:
    """Counts of a run."""

    rows: int = 0
    pairs: int = 0
    """Pairs of an email and a phone sent to identify: one for a row, or more if the row names several values."""
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    invalid: Faults = field(default_factory=Faults)
    dropped: Faults = field(default_factory=Faults)
    empty: Faults = field(default_factory=Faults)
    shortened: Faults = field(default_factory=Faults)
    untied: Faults = field(default_factory=Faults)
    failed: Faults = field(default_factory=Faults)
    understood: Understood | None = None
    """How the file is read."""
    later: list[str] = field(default_factory=list)
    """Unused members of JSON objects that first appear after the first rows."""
    rejects: str | None = None
    """The file with the faulty rows."""
    rejected: int = 0
    """How many rows that file has."""
    dry: bool = False
    """True if the rows were read and not sent."""
    stopped: str | None = None
    """Why the run ended before the file did, and where to go on."""
    started: float = field(default_factory=monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long the run has taken."""
        return (monotonic() if self.ended is None else self.ended) - self.started

    @property
    def rows_per_second(self) -> float:
        """How fast the run is."""
        return self.rows / max(self.seconds, 1e-9)

    @property
    def complete(self) -> bool:
        """True if every row of the file is in, and every cell that holds a value."""
        return not (self.invalid or self.dropped or self.failed or self.stopped)

    def note(self, note: Note) -> None:
        """Count a note."""
        faults: Faults = getattr(self, note.fate)
        faults.add(note.reason, note.line, note.column)

    def as_json(self) -> dict[str, Any]:
        """The summary for JSON."""
        return {
            "columns": self.understood,
            "rows": self.rows,
            "pairs": self.pairs,
            "dryRun": self.dry,
            **{outcome.value.lower(): self.outcomes[outcome] for outcome in Outcome},
            "refusals": dict(self.refusals),
            **{kind: getattr(self, kind).listed() for kind in FAULTS},
            "unusedLater": self.later,
            "rejects": self.rejects,
            "rejected": self.rejected,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "rowsPerSecond": round(self.rows_per_second, 1),
        }
