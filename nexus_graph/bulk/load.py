"""load: send the rows of a file through identify, in the order of the file.

Guarantee: the record ends as if each row had been sent alone, one after another, and the counts are those of such a
run. Rows are in flight together, so the guarantee rests on two facts:

- Rows with something new are decided in the order of dispatch. With one of `RESOLVE_CONNECTIONS` the fast path has one
  lane: its batches answer in order, and rows with something new join the one write lane in that order.
- A row that the fast path answers ahead of earlier rows was wholly known already, and stays known: in either order the
  row changes nothing and is MATCHED.

A row that is sent again, because the record was away or overloaded, is junior to the rows decided meanwhile. Other
callers may identify between the rows.
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

RESOLVE_CONNECTIONS: Final = 1
"""Connections of the fast path of the identity that `load` uses: one keeps the order of dispatch."""

IN_FLIGHT_MAX: Final = 256
"""Rows of a file in flight at once: four full batches of identify."""

RETRY_BASE_SECONDS: Final = 0.5
"""Seconds before the second try of a row; each further pause is twice as long."""

RETRY_MAX_SECONDS: Final = 10.0
"""The longest pause before a row is sent again, in seconds."""

RATE_SLACK_SECONDS: Final = 0.05
"""With --rate, seconds of lost time that may be made up for at once."""

AGAIN: Final = "Load the file again, or from that line on: rows that are in already change nothing."

_LOG = telemetry.log("load")


async def load(
    identity: Identity,
    settings: Settings,
    contacts: Iterable[Contact],
    summary: Summary,
    *,
    rate: float | None = None,
    rejects: Rejects | None = None,
) -> None:
    """Send the contacts through `identity.identify` in order, and count their outcomes into `summary`.

    `identity` must have been opened with this module's `RESOLVE_CONNECTIONS`. If the record stays away or the caller
    cancels, `summary.stopped` names the line to resume at. Raises the errors of `contacts`, once the contacts before
    are in.
    """
    dispatch = _Dispatch(identity, settings, summary, rejects)
    pace = _Pace(rate)
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
        summary.stopped = str(away)
    except asyncio.CancelledError:
        summary.stopped = stopped("interrupted", line, AGAIN)
        raise
    finally:
        summary.ended = monotonic()


class _Away(Exception):
    """The record took no rows for too long. `str()` says which server, and the first line that may not be in."""


def pause_seconds(retries: int) -> float:
    """Seconds until the next try, after so many retries."""
    return min(RETRY_BASE_SECONDS * 2.0**retries, RETRY_MAX_SECONDS)


def took_no_writes(settings: Settings, server: database.Server, reason: str) -> str:
    """Why a run stopped: the server that took no writes, and its fault."""
    return f"PostgreSQL at {database.where(settings, server)} took no writes for too long, as it {reason}"


class _Sent(NamedTuple):
    """A pair in flight."""

    place: int
    """Its position in the order of dispatch."""
    contact: Contact
    request: IdentifyRequest


class _Dispatch:
    """Sends pairs in order, a bounded number in flight, and again if the record was away or overloaded."""

    def __init__(self, identity: Identity, settings: Settings, summary: Summary, rejects: Rejects | None) -> None:
        self._identity = identity
        self._settings = settings
        self._summary = summary
        self._rejects = rejects
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._under_way: set[asyncio.Task[None]] = set()
        self._retries: list[_Sent] = []
        self._reason = ""
        """Why the last of `_retries` failed."""

    async def send(self, contact: Contact, request: IdentifyRequest) -> None:
        """Send a pair once a slot is free. Raises _Away if the record does not take earlier pairs."""
        if self._retries:
            await self.finish()
        self._summary.pairs += 1
        await self._start(_Sent(self._summary.pairs, contact, request))

    async def finish(self) -> None:
        """Wait until all pairs are in, with retries. Raises _Away."""
        await self._settle()
        for attempt in range(self._settings.load_tries_max - 1):
            if not self._retries:
                return
            retries, self._retries = sorted(self._retries, key=lambda sent: sent.place), []
            await asyncio.sleep(pause_seconds(attempt))
            for sent in retries:
                if self._retries:
                    self._retries.append(sent)
                else:
                    await self._start(sent)
            await self._settle()
        if self._retries:
            why = took_no_writes(self._settings, "primary", self._reason)
            raise _Away(stopped(why, min(sent.contact.line for sent in self._retries), AGAIN))

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
            self._retries.append(sent)
            self._reason = "does not answer in time" if error.__cause__ is None else database.reason(error.__cause__)
        except NexusError as error:
            self._fail(sent.contact, error.message)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not stop the rows after it
            _LOG.error("row_failed", line=sent.contact.line, error=telemetry.error_name(error))
            self._fail(sent.contact, f"an unexpected error ({telemetry.error_name(error)})")
        else:
            self._summary.outcomes[answer.outcome] += 1
            if answer.reason is not None:
                self._summary.refusals[answer.reason] += 1
        finally:
            self._slots.release()

    def _fail(self, contact: Contact, reason: str) -> None:
        self._summary.failed.add(reason, contact.line)
        if self._rejects is not None and contact.row is not None:
            self._rejects.add(contact.row, [Note(Fate.INVALID, contact.line, None, reason)])
            contact.row = None  # the row is rejected once, though another of its pairs may fail


class _Pace:
    """At most `rate` rows a second, evenly."""

    def __init__(self, rate: float | None) -> None:
        self._interval_seconds = 0.0 if rate is None else 1.0 / rate
        self._next = monotonic()

    async def wait(self) -> None:
        """Return when the next row may go."""
        if not self._interval_seconds:
            return
        now = monotonic()
        if self._next > now:
            await asyncio.sleep(self._next - now)
        self._next = max(self._next, now - RATE_SLACK_SECONDS) + self._interval_seconds


def stopped(why: str, line: int, again: str) -> str:
    """Why and where a run stopped; `again` says how to go on."""
    return f"{why}: stopped at line {line}. The rows before it are in. {again}"
