"""`nexus-graph load`: how the file is read, the progress, and the result."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from time import monotonic
from typing import Final

from nexus_graph import telemetry
from nexus_graph.bulk.columns import Options
from nexus_graph.bulk.contacts import Contact, Contacts
from nexus_graph.bulk.load import AGAIN, load, load_settings
from nexus_graph.bulk.reading import UnclearColumns, UnreadableFile
from nexus_graph.bulk.rejects import Rejects
from nexus_graph.bulk.rows import LINE_MAX_BYTES, open_rows
from nexus_graph.bulk.summary import LINES_SHOWN, Summary
from nexus_graph.commands.report import Report
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.identity.opening import open_identity

EXIT_INCOMPLETE: Final = 1
EXIT_UNREADABLE: Final = 2


def run(settings: Settings, file: Path, options: Options, *, rate: float | None, as_json: bool) -> int:
    """The command. Returns 0 if every row is in, and every cell that holds a value; 1 if not; 2 if the file cannot be
    read, or not to its end.
    """
    telemetry.configure_logging(settings.log_level)
    summary = Summary(dry=options.dry)
    return load_file(settings, file, summary, options, rate=rate, report=Report(file, as_json=as_json))


def load_file(
    settings: Settings,
    file: Path,
    summary: Summary,
    options: Options | None = None,
    *,
    rate: float | None = None,
    report: Report | None = None,
) -> int:
    """Load the file and report. Returns the exit code of `run`."""
    options = options or Options()
    report = report or Report(file, quiet=True)

    def work() -> None:
        with (
            open_rows(file, line_max_bytes=LINE_MAX_BYTES, choice=options.choice) as rows,
            open_rejects(options, file, summary) as rejects,
        ):
            summary.understood = rows.understood
            report.understood(rows.understood, settings.phone_region)
            if rejects is not None:
                rejects.begin(rows.columns.names, rows.columns.rejects, rows.delimiter)
            contacts = Contacts(rows, rows.columns, region=settings.phone_region, strict=options.strict)
            counted = _counted(contacts, summary, rejects)
            if options.dry:
                summary.pairs += sum(len(contact.pairs) for contact in counted)
                summary.ended = monotonic()
            else:
                loading = _load(settings, counted, summary, rate=rate, rejects=rejects)
                progress = report.progress(rows, summary, every_seconds=settings.load_report_seconds)
                asyncio.run(_with_progress(progress, loading))
            summary.later = rows.understood.unused[len(summary.understood.unused) :]

    return exit_code(work, file, summary, report, again=AGAIN)


def exit_code(work: Callable[[], None], file: Path, summary: Summary, report: Report, *, again: str) -> int:
    """Run `work` and report how it ended. `again` says how to go on after a file that could not be read to its end."""
    code = EXIT_INCOMPLETE
    try:
        work()
    except UnreadableFile as error:
        summary.stopped = reading_error(file, error, summary, again)
        code = EXIT_UNREADABLE
    except Unavailable as error:
        summary.stopped = summary.stopped or error.message
    except KeyboardInterrupt:
        summary.stopped = summary.stopped or "interrupted"
    if summary.stopped:
        report.error(summary.stopped)
    report.ended(summary)
    return 0 if summary.complete else code


@contextmanager
def open_rejects(options: Options, source: Path, summary: Summary) -> Iterator[Rejects | None]:
    """The file of rejects, if requested; the summary gets its number of rows. Raises UnclearColumns."""
    if options.rejects is None:
        yield None
        return
    with Rejects(options.rejects, source) as rejects:
        try:
            yield rejects
        finally:
            summary.rejected = rejects.rows
            summary.rejects = str(options.rejects) if rejects.rows else None


def reading_error(file: Path, error: UnreadableFile, summary: Summary, again: str) -> str:
    """The message for a file that could not be read, or not to its end."""
    message = f"{file}: {error}"
    if isinstance(error, UnclearColumns) or not summary.rows:
        return message
    return f"{message}. {'Nothing was sent.' if summary.dry else f'The rows before it are in. {again}'}"


async def _load(
    settings: Settings, contacts: Iterable[Contact], summary: Summary, *, rate: float | None, rejects: Rejects | None
) -> None:
    async with open_identity(load_settings(settings)) as identity:
        await load(identity, settings, contacts, summary, rate=rate, rejects=rejects)


async def _with_progress(progress: AbstractAsyncContextManager[None], loading: Coroutine[None, None, None]) -> None:
    async with progress:
        await loading


def _counted(contacts: Iterable[Contact], summary: Summary, rejects: Rejects | None) -> Iterator[Contact]:
    """The contacts, with their notes counted and faulty rows written to the file of rejects."""
    for contact in contacts:
        summary.rows += 1
        for note in contact.notes:
            summary.note(note, lines_shown=LINES_SHOWN)
        if rejects is not None and contact.notes and contact.row is not None:
            rejects.add(contact.row, contact.notes)
        yield contact
