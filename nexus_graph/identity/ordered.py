"""Many identify calls as one: decided in their order, each as if it were asked once the one before was answered; and,
by a key, decided once however often a client sends them.

The calls of all callers come together in batches by themselves (`Identify`); these do not. One list at a time goes to
the record, in turn with the batches, so that a long list delays others by one statement at most.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal, NamedTuple, TypeAlias

import asyncpg
import msgspec

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import (
    IdempotencyKeyBusy,
    IdempotencyKeyReused,
    NexusError,
    Overloaded,
    RowRejected,
    Unavailable,
)
from nexus_graph.gather.bounds import REQUESTS_MAX
from nexus_graph.identity.identify import FEW, Identify, columns
from nexus_graph.model import Family, Identification, IdentifyRequest, Outcome
from nexus_graph.statements import sql
from nexus_graph.store.database import is_datas_fault

WAITING_MAX: Final = 64
"""Lists that wait for their turn, of one process: of 500 rows each some 13 MB."""

SHOWN_MAX_CONTACTS: Final = 20_000
"""Contacts that the families of one answer have together, some 4 MB of JSON: many rows may be of one large family. Rows
past them are answered, and kept with a key, without their families; the first row never is."""

EXPIRE_SECONDS: Final = 60.0
"""Between two looks for answers that have expired."""

EXPIRE_MAX: Final = 1_000
"""Answers that one statement deletes."""

_LOG = telemetry.log("ordered")

Decided: TypeAlias = "Identification | NexusError"


class Key(NamedTuple):
    """An Idempotency-Key, and what came with it."""

    principal: str
    key: str
    request_hash: bytes
    """SHA-256 of the path and the body."""


class Once(NamedTuple):
    """The answers to the requests of a key."""

    answers: Sequence[Identification]
    is_replayed: bool
    """They were decided by an earlier call."""


class _Row(msgspec.Struct, array_like=True):
    """A row of the answer as `identify_once` keeps it."""

    outcome: Outcome
    reason: str | None
    version: int
    contact_ids: list[int]
    emails: list[str | None] | None = None
    phones: list[str | None] | None = None
    created_ats: list[datetime] | None = None


_rows = msgspec.json.Decoder(list[_Row]).decode


class Ordered:
    """The verbs. One a process."""

    def __init__(self, identify: Identify, settings: Settings) -> None:
        self._identify = identify
        self._settings = settings
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._busy: set[tuple[str, str]] = set()

    async def in_order(self, requests: Sequence[IdentifyRequest]) -> list[Decided]:
        """An answer or an error for each request, in order. Committed are all that have an answer.

        Raises Overloaded or Unavailable if none could be decided.
        """
        answers: list[Decided] = []
        async with self._in_turn():
            try:
                for first in range(0, len(requests), REQUESTS_MAX):
                    answers += await self._next(list(requests[first : first + REQUESTS_MAX]))
            except Unavailable as error:
                # Earlier requests are committed; each later one would wait for the same failure.
                if not answers:
                    raise
                answers += [error] * (len(requests) - len(answers))
        return answers

    async def once(self, key: Key, requests: Sequence[IdentifyRequest]) -> Once:
        """The answers, in order: all of one transaction, which keeps them with the key. The same again is answered by
        what was kept, until it expires (NEXUS_IDEMPOTENCY_SECONDS). Past SHOWN_MAX_CONTACTS families are ids alone.

        Raises IdempotencyKeyBusy, IdempotencyKeyReused; RowRejected, if the database refuses one for its data: then
        nothing is written, and the key is free; Overloaded or Unavailable: the effect is unknown, a repeat is safe.
        """
        name = key.principal, key.key
        if name in self._busy:
            raise _busy()
        self._busy.add(name)
        try:
            async with self._in_turn():
                state, answer = await self._decided_once(key, requests)
        finally:
            self._busy.discard(name)
        if state == "BUSY":
            raise _busy()
        if state == "OTHER_REQUEST":
            raise IdempotencyKeyReused("this Idempotency-Key came with another request before", field="Idempotency-Key")
        answers = [_identification(row) for row in _rows(answer)]
        if state == "DECIDED":
            for one in answers:
                self._identify.note(one)
        return Once(answers, is_replayed=state == "REPLAYED")

    async def expire(self) -> None:
        """Delete kept answers that have expired, for ever."""
        while True:
            try:
                ((deleted,),) = await self._identify.resolving.fetch(sql("idempotency_expire"), EXPIRE_MAX)
            except (NexusError, asyncpg.PostgresError) as error:
                _LOG.warning("not_expired", error=telemetry.error_name(error))
                deleted = 0
            await asyncio.sleep(0 if deleted == EXPIRE_MAX else EXPIRE_SECONDS)

    async def _next(self, requests: list[IdentifyRequest]) -> list[Decided]:
        """Answers of one batch. Raises Unavailable: nothing of it is known."""
        families = await self._identify.resolved(requests)
        answers: list[Decided] = []
        for family in families:
            if family is None:
                break
            answers.append(Identification(Outcome.MATCHED, family))
        # A known request behind an unknown one may be answered otherwise once that one is decided.
        for answer in await self._identify.decided(requests[len(answers) :]) if len(answers) < len(requests) else ():
            if isinstance(answer, Identification):
                self._identify.note(answer)
            elif not isinstance(answer, NexusError):
                raise answer
            answers.append(answer)
        return answers

    async def _decided_once(
        self, key: Key, requests: Sequence[IdentifyRequest]
    ) -> tuple[Literal["DECIDED", "REPLAYED", "BUSY", "OTHER_REQUEST"], str]:
        named = sha256(f"{key.principal}\n{key.key}".encode()).digest()
        try:
            ((state, answer),) = await self._identify.writing.fetch(
                sql("identify_once"),
                key.principal,
                named,
                key.request_hash,
                self._settings.idempotency_seconds,
                int.from_bytes(named[:8], "big", signed=True),
                *columns(requests),
                self._settings.family_limit_contacts,
                FEW,
                SHOWN_MAX_CONTACTS,
            )
        except Exception as error:
            if not is_datas_fault(error):
                raise
            _LOG.warning("batch_rejected", error=telemetry.error_name(error), requests=len(requests))
            raise RowRejected("the database refused this request for its data") from error
        return state, answer

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Raises Overloaded if too many wait, or this one did for too long."""
        if self._waiting >= WAITING_MAX:
            raise Overloaded("too many lists are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._settings.identify_wait_max_seconds):
                await self._turn.acquire()
        except TimeoutError:
            raise Overloaded("waited too long for its turn") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()


def _busy() -> IdempotencyKeyBusy:
    return IdempotencyKeyBusy("a request with this Idempotency-Key is under way", field="Idempotency-Key")


def _identification(row: _Row) -> Identification:
    nothing = [None] * len(row.contact_ids)
    emails, phones = row.emails or nothing, row.phones or nothing
    family = Family.of_columns(row.version, row.contact_ids, emails, phones, row.created_ats)
    return Identification(row.outcome, family, row.reason)
