"""What became of the rows of a file: counted while they go, shown on a terminal or printed for a program."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Protocol

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from nexus_graph.identity.model import Outcome

_BAR_REFRESH_SECONDS: Final = 0.1
_MEANING: Final = {
    Outcome.CREATED: "a new family",
    Outcome.LINKED: "something new about a known family",
    Outcome.MERGED: "two families found to be one",
    Outcome.MATCHED: "no contact new: all of it was known",
    Outcome.REFUSED: "would have made a family too large",
}


@dataclass
class Fault:
    """Rows that were not sent, or not taken, for one reason."""

    rows: int = 0
    first_lines: list[int] = field(default_factory=list)

    def add(self, line: int, *, lines_shown: int) -> None:
        """One more such row."""
        self.rows += 1
        if len(self.first_lines) < lines_shown:
            self.first_lines.append(line)


@dataclass
class Summary:
    """Counts, rules and line numbers; never an identifier."""

    rows: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    invalid: dict[str, Fault] = field(default_factory=dict)
    """By the rule that the row breaks: it was not sent."""
    failed: dict[str, Fault] = field(default_factory=dict)
    """By why the row was not taken though it was sent."""
    stopped: str | None = None
    """Why the load ended before the file did, and where to go on."""
    started: float = field(default_factory=monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        return (monotonic() if self.ended is None else self.ended) - self.started

    @property
    def rows_per_second(self) -> float:
        return self.rows / max(self.seconds, 1e-9)

    @property
    def complete(self) -> bool:
        """True if every row of the file is in."""
        return not (self.invalid or self.failed or self.stopped)


class Reading(Protocol):
    """A file that is being read."""

    size_bytes: int

    @property
    def position_bytes(self) -> int:
        """How far into the file it has come."""


@asynccontextmanager
async def progress(
    console: Console, reading: Reading, summary: Summary, *, report_seconds: float
) -> AsyncIterator[None]:
    """While inside, show how far it is: a bar on a terminal, elsewhere a line every `report_seconds`."""
    if console.is_terminal:
        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description} · eta"), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(_so_far(summary), total=reading.size_bytes)

            def move() -> None:
                bar.update(task, completed=reading.position_bytes, description=_so_far(summary))

            async with _repeating(move, every_seconds=_BAR_REFRESH_SECONDS):
                yield
    else:
        async with _repeating(lambda: console.print(_so_far(summary)), every_seconds=report_seconds):
            yield


def print_table(console: Console, summary: Summary) -> None:
    """The summary for people."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", style="bold")
    table.add_column()
    table.add_column(style="dim")
    table.add_row(f"{summary.rows:,}", "rows", f"{summary.seconds:.1f} s, {summary.rows_per_second:,.0f} rows/s")
    for outcome, meaning in _MEANING.items():
        table.add_row(f"{summary.outcomes[outcome]:,}", outcome.value, meaning)
        if outcome is Outcome.REFUSED:
            for reason, rows in summary.refusals.items():
                table.add_row(f"{rows:,}", f"  {reason}", "")
    for kind, faults in (("invalid", summary.invalid), ("failed", summary.failed)):
        table.add_row(f"{sum(fault.rows for fault in faults.values()):,}", kind, "")
        for reason, fault in faults.items():
            table.add_row(f"{fault.rows:,}", f"  {reason}", _lines(fault))
    console.print(table)


def as_json(summary: Summary) -> str:
    """The summary for programs."""
    answer = {
        "rows": summary.rows,
        **{outcome.value.lower(): summary.outcomes[outcome] for outcome in _MEANING},
        "refusals": dict(summary.refusals),
        "invalid": _listed(summary.invalid),
        "failed": _listed(summary.failed),
        "stopped": summary.stopped,
        "seconds": round(summary.seconds, 3),
        "rowsPerSecond": round(summary.rows_per_second, 1),
    }
    return msgspec.json.format(msgspec.json.encode(answer)).decode()


@asynccontextmanager
async def _repeating(action: Callable[[], None], *, every_seconds: float) -> AsyncIterator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            action()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()


def _so_far(summary: Summary) -> str:
    return f"{summary.rows:,} rows, {summary.rows_per_second:,.0f} rows/s"


def _lines(fault: Fault) -> str:
    shown = ", ".join(map(str, fault.first_lines))
    return f"{'line' if fault.rows == 1 else 'lines'} {shown}{', …' if fault.rows > len(fault.first_lines) else ''}"


def _listed(faults: dict[str, Fault]) -> list[dict[str, object]]:
    return [{"reason": reason, "rows": fault.rows, "firstLines": fault.first_lines} for reason, fault in faults.items()]
