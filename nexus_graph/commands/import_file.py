"""`nexus-graph import`: how the file is read, the progress, and the result."""

import asyncio
from pathlib import Path

from nexus_graph import telemetry
from nexus_graph.bulk.columns import Options
from nexus_graph.bulk.contacts import Fate, Note
from nexus_graph.bulk.import_file import AGAIN, STATEMENT_TIMEOUT_SECONDS, Failed, import_rows
from nexus_graph.bulk.reader import Reader
from nexus_graph.bulk.rejects import Rejects
from nexus_graph.bulk.rows import LINE_MAX_BYTES, open_rows
from nexus_graph.bulk.summary import Summary
from nexus_graph.commands import load
from nexus_graph.commands.report import Report
from nexus_graph.config import Settings
from nexus_graph.gc_freeze import freeze_gc
from nexus_graph.store.database import connect_pool


def run(settings: Settings, file: Path, options: Options, *, as_json: bool) -> int:
    """The command. Returns what `load` returns."""
    if options.dry:
        return load.run(settings, file, options, rate=None, as_json=as_json)
    telemetry.configure_logging(settings.log_level)
    summary, report = Summary(), Report(file, as_json=as_json)
    freeze_gc()

    def work() -> None:
        with load.open_rejects(options, file, summary) as rejects:
            asyncio.run(_Run(settings, file, options, summary, report).go(rejects))

    return load.exit_code(work, file, summary, report, again=AGAIN)


class _Run:
    """One run of the command: a reader, a connection, and a report of both."""

    def __init__(self, settings: Settings, file: Path, options: Options, summary: Summary, report: Report) -> None:
        self._settings = settings
        self._file = file
        self._options = options
        self._summary = summary
        self._report = report

    async def go(self, rejects: Rejects | None) -> None:
        """Import the file. Raises what `import_rows` raises."""
        settings, summary = self._settings, self._summary
        patient = settings.model_copy(update={"statement_timeout_seconds": STATEMENT_TIMEOUT_SECONDS})
        async with Reader(self._file, settings, self._options) as reader:
            opened = reader.opened
            summary.understood = opened.understood
            self._report.understood(opened.understood, settings.phone_region)
            if rejects is not None:
                rejects.begin(opened.names, opened.added, opened.delimiter)
            pool = await connect_pool(patient, role="nexus_import", size=1, server="direct")
            try:
                async with self._report.progress(reader, summary, every_seconds=settings.load_report_seconds):
                    failed = await import_rows(pool, reader, settings, summary, rejects)
            finally:
                await pool.close()
        if rejects is not None and failed:
            self._reject(failed, rejects)

    def _reject(self, failed: Failed, rejects: Rejects) -> None:
        """Read the rows at these lines again, as the chunks had only their canonical values."""
        reasons = {line: why for why, lines in failed.items() for line in lines}
        most, choice = LINE_MAX_BYTES, self._options.choice
        with open_rows(self._file, line_max_bytes=most, choice=choice) as rows:
            for row in rows:
                if row.line in reasons:
                    rejects.add(row, [Note(Fate.INVALID, row.line, None, reasons[row.line])])
