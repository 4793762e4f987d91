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
from time import monotonic
from typing import Final, NamedTuple
from uuid import uuid4

from nexus_graph import telemetry
from nexus_graph.bulk.contacts import Contact, Fate, Note
from nexus_graph.bulk.rejects import Rejects
from nexus_graph.bulk.summary import Summary
from nexus_graph.config import Settings
from nexus_graph.errors import NexusError, Unavailable
from nexus_graph.identity.opening import Identity
from nexus_graph.model import IdentifyRequest
from nexus_graph.store import database

AGAIN: Final = "Load the file again, or from that line on: what is in already changes nothing."

_LOG = telemetry.log("load")


def settings_of_load(settings: Settings) -> Settings:
    """The settings to open identity with for `load`: a fast path of one lane keeps the order of dispatch."""
    return settings.model_copy(update={"resolve_connections": 1})


async def load(
    identity: Identity,
    settings: Settings,
    contacts: Iterable[Contact],
    summary: Summary,
    *,
    rate: float | None = None,
    rejects: Rejects | None = None,
) -> None:
    """Send the contacts through `identity.identify` in order, and count into `summary` what becomes of them.

    `identity` must have been opened with `settings_of_load`. If the record stays away or the caller cancels,
    `summary.stopped` says at which line to go on. Raises what `contacts` raises, once those before it are in.
    """
    dispatch = _Dispatch(identity, settings, summary, rejects)
    pace = _Pace(rate, settings.load_rate_slack_seconds)
    line = 1
    try:
        try:
            for contact in contacts:
                line = contact.line
                for email, phone in contact.pairs:
                    await pace.wait()
                    await dispatch.send(contact, IdentifyRequest(email, phone, uuid4()))
        finally:
            await dispatch.finish()
    except _Away as away:
        summary.stopped = f"{took_no_writes(settings, 'primary', away.reason)}: {_go_on_at(away.line)}"
    except asyncio.CancelledError:
        summary.stopped = f"interrupted: {_go_on_at(line)}"
        raise
    finally:
        summary.ended = monotonic()


class _Away(Exception):
    """The record took no rows for too long. `line` is the first that may not be in."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line)
        self.line = line
        self.reason = reason


def took_no_writes(settings: Settings, server: database.Server, reason: str) -> str:
    """Which server keeps a run from going on, and what the matter is there."""
    return f"PostgreSQL at {database.where(settings, server)} took no writes for too long, as it {reason}"


class _Sent(NamedTuple):
    """A pair on its way."""

    place: int
    """Pairs are sent in the order of their places."""
    contact: Contact
    request: IdentifyRequest


class _Dispatch:
    """Sends pairs in order, a bounded number under way, and again those that found the record away or overloaded."""

    def __init__(self, identity: Identity, settings: Settings, summary: Summary, rejects: Rejects | None) -> None:
        self._identity = identity
        self._settings = settings
        self._summary = summary
        self._rejects = rejects
        self._slots = asyncio.Semaphore(settings.load_in_flight_max)
        self._under_way: set[asyncio.Task[None]] = set()
        self._again: list[_Sent] = []
        self._reason = ""
        """Why the last of those has to be sent again."""

    async def send(self, contact: Contact, request: IdentifyRequest) -> None:
        """Send a pair once there is room. Raises _Away when pairs before it cannot be brought in."""
        if self._again:
            await self.finish()
        self._summary.pairs += 1
        await self._start(_Sent(self._summary.pairs, contact, request))

    async def finish(self) -> None:
        """Wait until all pairs that were sent are in, sending them again where that helps. Raises _Away."""
        await self._settle()
        for attempt in range(self._settings.load_tries_max - 1):
            if not self._again:
                return
            again, self._again = sorted(self._again, key=lambda sent: sent.place), []
            delay = self._settings.load_retry_base_seconds * 2.0**attempt
            await asyncio.sleep(min(delay, self._settings.load_retry_max_seconds))
            for sent in again:
                if self._again:
                    self._again.append(sent)
                else:
                    await self._start(sent)
            await self._settle()
        if self._again:
            raise _Away(min(sent.contact.line for sent in self._again), self._reason)

    async def _start(self, sent: _Sent) -> None:
        await self._slots.acquire()
        task = asyncio.create_task(self._identify(sent))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _settle(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _identify(self, sent: _Sent) -> None:
        try:
            answer = await self._identity.identify(sent.request)
        except Unavailable as error:
            self._again.append(sent)
            self._reason = "does not answer in time" if error.__cause__ is None else database.reason(error.__cause__)
        except NexusError as error:
            self._fail(sent.contact, error.message)
        except Exception as error:  # noqa: BLE001 - a fault of ours; the rows after it should not pay for it
            _LOG.error("row_failed", line=sent.contact.line, error=telemetry.error_name(error))
            self._fail(sent.contact, f"an unexpected error ({telemetry.error_name(error)})")
        else:
            self._summary.outcomes[answer.outcome] += 1
            if answer.reason is not None:
                self._summary.refusals[answer.reason] += 1
        finally:
            self._slots.release()

    def _fail(self, contact: Contact, reason: str) -> None:
        self._summary.failed.add(reason, contact.line, lines_shown=self._settings.load_lines_shown)
        if self._rejects is not None and contact.row is not None:
            self._rejects.add(contact.row, [Note(Fate.INVALID, contact.line, None, reason)])
            contact.row = None  # once is enough, if another pair of it fails as well


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


def _go_on_at(line: int) -> str:
    return f"stopped at line {line}. The rows before it are in. {AGAIN}"
