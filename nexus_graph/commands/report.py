"""The output of `load` and `import` on a terminal: how the file is read, the progress, and the result."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from nexus_graph.bulk.reader import Reader
from nexus_graph.bulk.rows import Rows, Understood
from nexus_graph.bulk.summary import FAULTS, Fault, Faults, Summary
from nexus_graph.model import Outcome

PROGRESS_SECONDS: Final = 5.0
"""Seconds between two lines of progress where no terminal shows a bar: an hour's log has some hundreds."""

_BAR_REFRESH_SECONDS: Final = 0.1
_MEANING: Final = {
    Outcome.CREATED: "a new family",
    Outcome.LINKED: "something new about a known family",
    Outcome.MERGED: "two families found to be one",
    Outcome.MATCHED: "nothing new: all of it was known",
    Outcome.REFUSED: "would have made a family too large",
}


class Report:
    """Prints a run: progress and errors to stderr, results to stdout; as JSON once, at the end."""

    def __init__(self, file: Path, *, as_json: bool = False, brief: bool = False) -> None:
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)
        self._answers = Console(highlight=False)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may not encode a header's script
        self._file = file
        self._as_json = as_json
        self._brief = brief

    def understood(self, understood: Understood, region: str | None) -> None:
        """Print how the file is read, before any row is sent."""
        if self._as_json or self._brief:
            return
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column()
        table.add_column(overflow="fold")
        table.add_row("read as", understood.form)
        table.add_row("emails", ", ".join(understood.emails) or "none")
        table.add_row("phones", ", ".join(understood.phones) or "none")
        table.add_row("not used", ", ".join(understood.unused) or "none")
        if understood.phones:
            assumed = region or "none (NEXUS_PHONE_REGION sets one)"
            table.add_row("country", f"of phones without a +: {assumed}")
        self._answers.print(self._file.name, markup=False)
        self._answers.print(table, markup=False)

    def error(self, message: str) -> None:
        """Print why the run ended early."""
        self._errors.print(f"nexus-graph: {message}", style="red", markup=False)

    def ended(self, summary: Summary) -> None:
        """Print the result."""
        if self._as_json:
            print(msgspec.json.format(msgspec.json.encode(summary.as_json())).decode())
        elif summary.rows:
            self._print(summary)

    def _print(self, summary: Summary) -> None:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(justify="right", style="bold")
        table.add_column()
        table.add_column(style="dim")
        table.add_row(f"{summary.rows:,}", "rows", f"{summary.seconds:.1f} s, {summary.rows_per_second:,.0f} rows/s")
        if summary.dry:
            table.add_row(f"{summary.pairs:,}", "pairs", "would be sent; nothing was")
        else:
            _add_outcomes(table, summary)
        for kind, meaning in FAULTS.items():
            faults: Faults = getattr(summary, kind)
            if faults or kind in ("invalid", "failed"):
                table.add_row(f"{faults.rows:,}", kind, meaning)
            for (reason, column), fault in faults.items():
                where = _lines(fault) if column is None else f"{column}, {_lines(fault)}"
                table.add_row(f"{fault.rows:,}", f"  {reason}", where)
        self._answers.print(table, markup=False)
        if summary.later:
            self._answers.print(f"not used, below the first rows: {', '.join(summary.later)}", markup=False)
        if summary.rejects is not None:
            self._answers.print(f"{summary.rejected:,} faulty rows are in {summary.rejects}", markup=False)

    @asynccontextmanager
    async def progress(self, reading: Rows | Reader, summary: Summary) -> AsyncIterator[None]:
        """Show the progress: a bar on a terminal, elsewhere a line every `PROGRESS_SECONDS`."""
        console = self._errors
        if not console.is_terminal:
            async with _repeating(lambda: console.print(_so_far(summary)), every_seconds=PROGRESS_SECONDS):
                yield
            return
        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description} · eta"), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(_so_far(summary), total=reading.size_bytes)

            def move() -> None:
                bar.update(task, completed=reading.position_bytes, description=_so_far(summary))

            async with _repeating(move, every_seconds=_BAR_REFRESH_SECONDS):
                yield


def _add_outcomes(table: Table, summary: Summary) -> None:
    if summary.pairs > summary.rows - summary.invalid.rows:
        table.add_row(f"{summary.pairs:,}", "pairs", "of an email and a phone: a row of several values has several")
    for outcome, meaning in _MEANING.items():
        table.add_row(f"{summary.outcomes[outcome]:,}", outcome.value, meaning)
        if outcome is Outcome.REFUSED:
            for reason, rows in summary.refusals.items():
                table.add_row(f"{rows:,}", f"  {reason}", "")


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
