"""load: the rows of a file through identify, in the order of the file.

What is guaranteed: the record ends as if each row had been sent alone, one after another, and the counts say what each
row would have been told. Rows are under way together, so this rests on two facts:

- What is not wholly known is decided in the order of dispatch. Opened with `settings_of_load`, the fast path has one
  lane: its batches answer in order, and the rows it does not know join the one write lane in that order.
- A row that the fast path answers ahead of rows before it was wholly known already, and known it stays: in either order
  it changes nothing and is MATCHED.

A row that had to be sent again, because the record was away or overloaded, is junior to those decided meanwhile. Calls
of others may come between the rows.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Final
from uuid import uuid4

from rich.console import Console

from nexus_graph import telemetry
from nexus_graph.bulk import summary as load_summary
from nexus_graph.bulk.rows import BadRow, Row, Rows, UnreadableFile, open_rows
from nexus_graph.bulk.summary import Fault, Summary
from nexus_graph.config import Settings
from nexus_graph.errors import InvalidIdentifier, NexusError, Unavailable
from nexus_graph.identity.model import IdentifyRequest
from nexus_graph.identity.normalize import identify_request
from nexus_graph.identity.opening import Identity, open_identity

EXIT_INCOMPLETE: Final = 1
EXIT_UNREADABLE: Final = 2

_AGAIN: Final = "Load the file again, or from that line on: what is in already changes nothing."

_LOG = telemetry.log("load")


def run(settings: Settings, file: Path, *, rate: float | None, as_json: bool) -> int:
    """The command. Returns 0; 1 if a row was invalid or is not in; 2 if the file cannot be read."""
    telemetry.configure_logging(settings.log_level)
    summary = Summary()
    code = load_file(settings, file, summary, rate=rate)
    if as_json:
        print(load_summary.as_json(summary))  # noqa: T201 - the answer of the command
    elif summary.rows:
        load_summary.print_table(Console(), summary)
    return code


def load_file(settings: Settings, file: Path, summary: Summary, *, rate: float | None = None) -> int:
    """Load the file, showing progress and saying what goes wrong on stderr. Returns the exit code of `run`."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    code = EXIT_INCOMPLETE
    try:
        with open_rows(file, line_max_bytes=settings.load_line_max_bytes) as rows:
            asyncio.run(_load_showing(settings, rows, summary, rate, console))
    except UnreadableFile as error:
        summary.stopped = f"{file}: {error}"
        if summary.rows:
            summary.stopped += f". The rows before it are in. {_AGAIN}"
        code = EXIT_UNREADABLE
    except Unavailable as error:
        summary.stopped = error.message
    except KeyboardInterrupt:
        summary.stopped = summary.stopped or "interrupted"
    if summary.stopped:
        console.print(summary.stopped, style="red", markup=False)
    return 0 if summary.complete else code


def settings_of_load(settings: Settings) -> Settings:
    """The settings to open identity with for `load`: a fast path of one lane keeps the order of dispatch."""
    return settings.model_copy(update={"resolve_connections": 1})


async def load(
    identity: Identity,
    settings: Settings,
    rows: Iterable[Row | BadRow],
    summary: Summary,
    *,
    rate: float | None = None,
) -> None:
    """Send the rows through `identity.identify` in order, and count into `summary`.

    `identity` must have been opened with `settings_of_load`. If the record stays away or the caller cancels,
    `summary.stopped` says at which line to go on. Raises what `rows` raises, once the rows before it are in.
    """
    dispatch = _Dispatch(identity, settings, summary)
    pace = _Pace(rate, settings.load_rate_slack_seconds)
    line = 1
    try:
        try:
            for row in rows:
                line = row.line
                summary.rows += 1
                request = _request(row, settings, summary)
                if request is not None:
                    await pace.wait()
                    await dispatch.send(line, request)
        finally:
            await dispatch.finish()
    except _Away as away:
        summary.stopped = f"PostgreSQL did not answer for too long: {_go_on_at(away.line)}"
    except asyncio.CancelledError:
        summary.stopped = f"interrupted: {_go_on_at(line)}"
        raise
    finally:
        summary.ended = monotonic()


class _Away(Exception):
    """The record did not answer for too long. `line` is the first that may not be in."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Dispatch:
    """Sends rows in order, a bounded number under way, and again those that found the record away or overloaded."""

    def __init__(self, identity: Identity, settings: Settings, summary: Summary) -> None:
        self._identity = identity
        self._settings = settings
        self._summary = summary
        self._slots = asyncio.Semaphore(settings.load_in_flight_max)
        self._under_way: set[asyncio.Task[None]] = set()
        self._again: dict[int, IdentifyRequest] = {}
        """By line."""

    async def send(self, line: int, request: IdentifyRequest) -> None:
        """Send a row once there is room. Raises _Away when rows before it cannot be brought in."""
        if self._again:
            await self.finish()
        await self._slots.acquire()
        task = asyncio.create_task(self._identify(line, request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def finish(self) -> None:
        """Wait until all rows that were sent are in, sending them again where that helps. Raises _Away."""
        await self._settle()
        for attempt in range(self._settings.load_tries_max - 1):
            if not self._again:
                return
            again, self._again = sorted(self._again.items()), {}
            delay = self._settings.load_retry_base_seconds * 2.0**attempt
            await asyncio.sleep(min(delay, self._settings.load_retry_max_seconds))
            for line, request in again:
                if self._again:
                    self._again[line] = request
                else:
                    await self.send(line, request)
            await self._settle()
        if self._again:
            raise _Away(min(self._again))

    async def _settle(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _identify(self, line: int, request: IdentifyRequest) -> None:
        try:
            answer = await self._identity.identify(request)
        except Unavailable:
            self._again[line] = request
        except NexusError as error:
            self._fail(line, error.message)
        except Exception as error:  # noqa: BLE001 - a fault of ours; the rows after it should not pay for it
            _LOG.error("row_failed", line=line, error=telemetry.error_name(error))
            self._fail(line, f"an unexpected error ({telemetry.error_name(error)})")
        else:
            self._summary.outcomes[answer.outcome] += 1
            if answer.reason is not None:
                self._summary.refusals[answer.reason] += 1
        finally:
            self._slots.release()

    def _fail(self, line: int, reason: str) -> None:
        self._summary.failed.setdefault(reason, Fault()).add(line, lines_shown=self._settings.load_lines_shown)


class _Pace:
    """At most so many rows a second, evenly. Lost time is made up for only within `slack_seconds`."""

    def __init__(self, rate: float | None, slack_seconds: float) -> None:
        self._interval_seconds = 0.0 if rate is None else 1.0 / rate
        self._slack_seconds = slack_seconds
        self._next = monotonic()

    async def wait(self) -> None:
        """Return when the next row may go."""
        if not self._interval_seconds:
            return
        now = monotonic()
        if self._next > now:
            await asyncio.sleep(self._next - now)
        self._next = max(self._next, now - self._slack_seconds) + self._interval_seconds


async def _load_showing(settings: Settings, rows: Rows, summary: Summary, rate: float | None, console: Console) -> None:
    async with (
        open_identity(settings_of_load(settings)) as identity,
        load_summary.progress(console, rows, summary, report_seconds=settings.load_report_seconds),
    ):
        await load(identity, settings, rows, summary, rate=rate)


def _request(row: Row | BadRow, settings: Settings, summary: Summary) -> IdentifyRequest | None:
    """The row in canonical form; None, and a fault in the summary, if it has none."""
    try:
        if isinstance(row, Row):
            return identify_request(row.email, row.phone, region=settings.phone_region, request_id=uuid4())
        reason = row.reason
    except InvalidIdentifier as error:
        reason = error.message
    summary.invalid.setdefault(reason, Fault()).add(row.line, lines_shown=settings.load_lines_shown)
    return None


def _go_on_at(line: int) -> str:
    return f"stopped at line {line}. The rows before it are in. {_AGAIN}"
