"""`nexus-graph load` and `import`: how the file is read, the progress, and the result.

Both return 0 if every row is in, and every cell that holds a value; 1 if not; 2 if the file cannot be read, or not to
its end.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import Final

from nexus_graph.bulk import import_file, load
from nexus_graph.bulk.columns import Options
from nexus_graph.bulk.contacts import Contact, Fate, Note, read_contacts
from nexus_graph.bulk.lines import UnclearColumns, UnreadableFile
from nexus_graph.bulk.reader import Reader
from nexus_graph.bulk.rejects import Rejects, open_rejects
from nexus_graph.bulk.rows import Rows, open_rows
from nexus_graph.bulk.summary import Summary
from nexus_graph.commands.report import Report
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.gc_freeze import freeze_gc
from nexus_graph.identity.opening import open_identity

EXIT_INCOMPLETE: Final = 1
EXIT_UNREADABLE: Final = 2
ALL_COLUMNS: Final = Options()


def load_contacts(
    settings: Settings,
    file: Path,
    options: Options = ALL_COLUMNS,
    *,
    rate: float | None = None,
    as_json: bool = False,
    brief: bool = False,
) -> int:
    """Send the rows through identify, and report. `brief`: without how the file is read."""
    summary, report = Summary(dry=options.dry), Report(file, as_json=as_json, brief=brief)

    async def send(rows: Rows, contacts: Iterable[Contact], rejects: Rejects | None) -> None:
        async with (
            report.progress(rows, summary),
            open_identity(settings, resolve_connections=load.RESOLVE_CONNECTIONS) as identity,
        ):
            await load.load(identity, settings, contacts, summary, rate=rate, rejects=rejects)

    def work() -> None:
        with (
            open_rows(file, options.choice) as rows,
            open_rejects(options.rejects, file, rows.layout, summary) as rejects,
        ):
            summary.understood = rows.understood
            report.understood(rows.understood, settings.phone_region)
            contacts = read_contacts(rows, region=settings.phone_region, strict=options.strict)
            counted = _counted(contacts, summary, rejects)
            if options.dry:
                summary.pairs += sum(len(contact.pairs) for contact in counted)
                summary.ended = monotonic()
            else:
                asyncio.run(send(rows, counted, rejects))
            summary.later = rows.understood.unused[len(summary.understood.unused) :]

    return _exit_code(work, file, summary, report, again=load.AGAIN)


def _counted(contacts: Iterable[Contact], summary: Summary, rejects: Rejects | None) -> Iterator[Contact]:
    """The contacts, with their notes counted and faulty rows written to the file of rejects."""
    for contact in contacts:
        summary.rows += 1
        for note in contact.notes:
            summary.note(note)
        if rejects is not None and contact.notes and contact.row is not None:
            rejects.add(contact.row, contact.notes)
        yield contact


def import_contacts(settings: Settings, file: Path, options: Options, *, as_json: bool) -> int:
    """Import the rows by the chunk, and report."""
    if options.dry:
        return load_contacts(settings, file, options, as_json=as_json)
    summary, report = Summary(), Report(file, as_json=as_json)
    freeze_gc()

    async def take() -> None:
        async with Reader(file, settings, options) as reader:
            opened = reader.opened
            with open_rejects(options.rejects, file, opened.layout, summary) as rejects:
                summary.understood = opened.understood
                report.understood(opened.understood, settings.phone_region)
                async with (
                    import_file.import_pool(settings) as pool,
                    report.progress(reader, summary),
                ):
                    failed = await import_file.import_rows(pool, reader, settings, summary, rejects)
                if rejects is not None and failed:
                    _reject(failed, file, options, rejects)

    return _exit_code(lambda: asyncio.run(take()), file, summary, report, again=import_file.AGAIN)


def _reject(failed: import_file.Failed, file: Path, options: Options, rejects: Rejects) -> None:
    """Read the rows at these lines again, as the chunks had only their canonical values."""
    reasons = {line: reason for reason, lines in failed.items() for line in lines}
    with open_rows(file, options.choice) as rows:
        for row in rows:
            if row.line in reasons:
                rejects.add(row, [Note(Fate.INVALID, row.line, None, reasons[row.line])])


def _exit_code(work: Callable[[], None], file: Path, summary: Summary, report: Report, *, again: str) -> int:
    """Run `work` and report how it ended. `again` says how to go on after a file that could not be read to its end."""
    code = EXIT_INCOMPLETE
    try:
        work()
    except UnreadableFile as error:
        code = EXIT_UNREADABLE
        summary.stopped = f"{file}: {error}"
        if summary.rows and not isinstance(error, UnclearColumns):
            summary.stopped += ". Nothing was sent." if summary.dry else f". The rows before it are in. {again}"
    except Unavailable as error:
        summary.stopped = summary.stopped or error.message
    except KeyboardInterrupt:
        summary.stopped = summary.stopped or "interrupted"
    if summary.stopped:
        report.error(summary.stopped)
    report.ended(summary)
    return 0 if summary.complete else code
