"""The audit trail as a process writes it: entries queue in memory; a connection of their own stores them in batches.

An entry says who did what, when, with what outcome, for which request, to which families. No email, phone, key or token
has a place in it: what and outcome are closed sets, ids are numbers, and the table's constraints refuse any other text.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from enum import StrEnum
from time import monotonic, time_ns
from typing import Final, NamedTuple
from uuid import UUID, uuid4

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.door.audit_chain import Head, keep_head
from nexus_graph.errors import Overloaded, Unavailable
from nexus_graph.statements import sql
from nexus_graph.store.database import Connection, PoolConnection, is_datas_fault, open_pool
from nexus_graph.store.record import Record
from nexus_graph.tasks import raise_if_cancelled

WRITE_SECONDS: Final = 0.1
"""The pause between two batches: what a killed process loses at most, and no more than ten commits a second."""

BATCH_MAX_ENTRIES: Final = 250
"""Entries of one statement: sending them takes about a millisecond of the event loop, and requests wait meanwhile."""

AWAY_SECONDS: Final = 0.5
"""The pause between two tries while the record is away."""

KEEP_SECONDS: Final = 1.0
"""The head file is at most so much older than the trail. Each write waits for a disk, maybe that of PostgreSQL."""

CLOSE_SECONDS: Final = 5.0
"""How long a process that stops tries to store what is queued."""

_LOG = telemetry.log("audit")


class What(StrEnum):
    """What a caller did, or tried."""

    IDENTIFY = "identify"
    FAMILY_BY_IDENTIFIER = "family-by-identifier"
    FAMILY = "family"
    CONTACT = "contact"
    NODE = "node"
    LIST = "list"
    EVENTS = "events"
    SUBSCRIBE = "subscribe"
    EXPLAIN = "explain"
    LINK = "link"
    SPLIT = "split"
    BLOCK = "block"
    REVIEW = "review"
    UNDO = "undo"
    DELETE = "delete"
    IMPORT = "import"
    RENORMALIZE = "renormalize"
    EXPORT = "export"
    ERASE = "erase"
    QUERY = "query"
    """A GraphQL request, where it was refused before its fields were known."""
    SOCKET = "socket"
    """A WebSocket or an event stream as a whole: let in, refused, closed on expiry."""
    ENTER = "enter"
    """Credentials were shown, and refused."""
    METRICS = "metrics"
    HEALTH = "health"
    VERIFY = "verify"
    KEY_CREATE = "key-create"
    KEY_ROTATE = "key-rotate"
    KEY_REVOKE = "key-revoke"
    OTHER = "other"
    """A call of any other route, where it was refused."""

    AUDIT_START = "audit-start"
    """A process began to append."""
    AUDIT_STOP = "audit-stop"
    """It ended in order. Where this is missing, up to WRITE_SECONDS of its entries may be missing too."""
    AUDIT_LOST = "audit-lost"
    """`amount` entries could not be stored."""
    AUDIT_RETAIN = "audit-retain"
    """Entries up to number `amount` were dropped."""


class Outcome(StrEnum):
    """What became of it."""

    ANSWERED = "answered"
    """Nothing was changed."""
    CHANGED = "changed"
    ABSENT = "absent"
    """There is no such object, or none in the caller's sight."""
    REFUSED = "refused"
    """The request was malformed, or its change is not allowed by the record's own rules."""
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


class Entry(NamedTuple):
    """One line of the trail."""

    who: str
    """`Principal.name`, `system` for the service itself, or `command` for who works at a terminal."""
    what: What
    outcome: Outcome
    request_id: UUID | str | None
    """A UUID; as text, with or without hyphens. The table takes nothing else."""
    family_ids: tuple[int, ...]
    at: int
    """Microseconds since 1970: `now()`."""
    subject: str | None = None
    """The name of the principal that the call was about, such as a key that was revoked."""
    amount: int | None = None
    """What AUDIT_LOST and AUDIT_RETAIN count."""


def now() -> int:
    """This moment, in microseconds since 1970."""
    return time_ns() // 1_000


async def append(connection: "Connection | PoolConnection", entries: Sequence[Entry]) -> Head:
    """Store entries by a connection of the caller's, in its transaction if one is open. Raises what the driver raises.

    The chain's head is locked until that transaction ends, and no other process appends meanwhile: append last.
    """
    ((seq, digest),) = await connection.fetch(sql("audit_append"), None, None, *_columns(entries))
    return Head(seq, digest)


class Audit:
    """The appender of one process. `NEXUS_AUDIT` says what happens to entries that cannot be stored.

    `on`: past the queue's bound entries are dropped and counted, and an entry AUDIT_LOST tells how many, once it can be
    stored. `strict`: such a call gets 503 instead of its answer, and so does every call while the record is away; the
    entries of calls that were answered before wait until the record is back. Callers without valid credentials get 503
    once the queue is half full. `off`: nothing is kept.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is sent before `start`."""
        self._settings = settings
        self._is_on = settings.audit != "off"
        self._is_strict = settings.audit == "strict"
        self._waiting: list[Entry] = []
        self._room = settings.audit_queue_max_entries if self._is_on else 0
        """Entries that may wait now."""
        self._lost = 0
        """Entries dropped of which no stored entry tells yet."""
        self._away = False
        self._unkept: Head | None = None
        """The newest head that the head file does not hold yet."""
        self._keep_at = float("-inf")
        self._writer = uuid4()
        self._batches = 0
        self._closing = AsyncExitStack()
        self._record: Record | None = None
        self._stopping = asyncio.Event()
        self._give_up_at = float("inf")
        self._working: asyncio.Task[None] | None = None

    def record(self, entry: Entry) -> None:
        """Queue an entry; no I/O. Where `strict`, raises Overloaded if the queue is full, Unavailable if the record is
        away: the caller must not be answered then.
        """
        if len(self._waiting) < self._room:
            self._waiting.append(entry)
        else:
            self._dropped()

    def record_stranger(self, entry: Entry) -> None:
        """`record`, for a caller without valid credentials. Where `strict`, raises once the queue is half full: such
        callers do not take the room of those whom the door lets in.
        """
        if self._is_strict and 2 * len(self._waiting) >= self._room:
            self._refuse()
        self.record(entry)

    def check_room(self) -> None:
        """Raises what `record` would raise, before anything is done for the caller."""
        if self._is_strict and len(self._waiting) >= self._room:
            self._refuse()

    async def start(self) -> None:
        """Begin to store. Where `strict`, raises Unavailable if the record is away."""
        if not self._is_on:
            return
        if self._is_strict:
            await self._open()
        self._waiting.append(_of_service(What.AUDIT_START))
        self._working = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Store what is queued, within CLOSE_SECONDS. What is left then is counted and logged."""
        if self._working is None:
            return
        self._waiting.append(_of_service(What.AUDIT_STOP))
        self._room = 0
        self._give_up_at = monotonic() + CLOSE_SECONDS
        self._stopping.set()
        # A statement under way has its own, longer bounds.
        await asyncio.wait({self._working}, timeout=CLOSE_SECONDS + AWAY_SECONDS)
        self._working.cancel()
        await asyncio.wait({self._working})
        if left := len(self._waiting) + self._lost:
            telemetry.AUDIT_LOST.labels("closed").inc(len(self._waiting))
            _LOG.error("audit_lost", entries=left)
        self._keep_at = monotonic()
        await self._keep()
        await self._closing.aclose()

    def _dropped(self) -> None:
        if not self._is_on:
            return
        if self._is_strict:
            self._refuse()
        if not self._lost:
            _LOG.warning("audit_full", waiting=len(self._waiting))
        self._lost += 1
        telemetry.AUDIT_LOST.labels("full").inc()

    def _refuse(self) -> None:
        telemetry.AUDIT_REFUSED.inc()
        if self._away:
            raise Unavailable("the audit trail cannot be written; the same request may be sent again")
        raise Overloaded("the audit trail is behind; the same request may be sent again")

    async def _work(self) -> None:
        while True:
            raise_if_cancelled()
            stopping = self._stopping.is_set()
            while self._waiting or self._lost:
                # What is taken here stays in the queue until it is stored, so that the queue's bound holds for both.
                taken = self._waiting[:BATCH_MAX_ENTRIES]
                if not await self._stored(taken):
                    return
                del self._waiting[: len(taken)]
                telemetry.AUDIT_WAITING.set(len(self._waiting))
                if self._lost and not await self._stored_loss():
                    return
            if stopping:
                return
            await self._keep()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), WRITE_SECONDS)

    async def _stored_loss(self) -> bool:
        """Store an entry that tells of the loss so far. False if that was given up."""
        told = self._lost
        if not await self._stored([_of_service(What.AUDIT_LOST, told)]):
            return False
        _LOG.warning("audit_lost", entries=told)
        self._lost -= told
        return True

    async def _stored(self, entries: list[Entry]) -> bool:
        """Store a batch, however long the record is away. False if the process stops before.

        A batch that the table refuses is stored entry by entry, without those that it refuses.
        """
        self._batches += 1
        while True:
            try:
                head = await self._sent(entries)
            except Exception as error:  # noqa: BLE001 - the appender outlives every error
                raise_if_cancelled()
                if is_datas_fault(error):
                    return await self._stored_singly(entries, error)
                self._be_away(error)
                if monotonic() + AWAY_SECONDS > self._give_up_at:
                    return False
                await asyncio.sleep(AWAY_SECONDS)
                continue
            self._be_back()
            telemetry.AUDIT_ENTRIES.inc(len(entries))
            telemetry.BATCH_SIZE.labels("audit").observe(len(entries))
            telemetry.AUDIT_HEAD.set(head.seq)
            telemetry.AUDIT_HEAD_DIGEST.set(head.digest)
            self._unkept = head
            await self._keep()
            return True

    async def _stored_singly(self, entries: list[Entry], error: Exception) -> bool:
        if len(entries) == 1:
            _LOG.error("audit_entry_refused", error=telemetry.error_name(error))
            telemetry.AUDIT_LOST.labels("refused").inc()
            self._lost += 1
            return True
        for entry in entries:
            if not await self._stored([entry]):
                return False
        return True

    async def _sent(self, entries: list[Entry]) -> Head:
        record = await self._open()
        # The record may send a statement twice; the number of the batch makes that harmless.
        ((seq, digest),) = await record.fetch(sql("audit_append"), self._writer, self._batches, *_columns(entries))
        return Head(seq, digest)

    async def _open(self) -> Record:
        if self._record is None:
            pool = await self._closing.enter_async_context(open_pool(self._settings, role="nexus_api", size=1))
            self._record = Record(pool, self._settings)
            self._closing.push_async_callback(self._record.close)
        return self._record

    def _be_away(self, error: Exception) -> None:
        if not self._away:
            _LOG.warning("audit_away", error=telemetry.error_name(error))
        self._away = True
        if self._is_strict:
            self._room = 0

    def _be_back(self) -> None:
        if not self._away:
            return
        _LOG.info("audit_back", waiting=len(self._waiting))
        self._away = False
        if not self._stopping.is_set():
            self._room = self._settings.audit_queue_max_entries

    async def _keep(self) -> None:
        """Write the newest head to the file of NEXUS_AUDIT_HEAD_FILE, where it is time."""
        path, head = self._settings.audit_head_file, self._unkept
        if path is None or head is None or monotonic() < self._keep_at:
            return
        self._unkept, self._keep_at = None, monotonic() + KEEP_SECONDS
        try:
            await asyncio.to_thread(keep_head, path, head)
        except OSError as error:
            telemetry.AUDIT_HEADS_NOT_KEPT.inc()
            _LOG.error("audit_head_not_kept", error=telemetry.error_name(error), errno=error.errno)


def _of_service(what: What, amount: int | None = None) -> Entry:
    return Entry("system", what, Outcome.CHANGED, None, (), now(), None, amount)


def _columns(entries: Sequence[Entry]) -> tuple[object, ...]:
    """Each field of all entries, in the order of `audit_append`'s parameters."""
    whos, whats, outcomes, requests, families, ats, subjects, amounts = zip(*entries, strict=True)
    literals = ["{" + ",".join(map(str, ids)) + "}" if ids else "{}" for ids in families]
    return whos, whats, outcomes, subjects, requests, literals, ats, amounts
