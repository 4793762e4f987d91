"""Statements for the record, each answered within its limit even if a server hangs.

A statement may be sent twice: a read changes nothing, and neither does a repeated identify. If a connection breaks
under a statement, the statement is sent once more if there is time. If the server does not answer in time, the
statement is not sent again: its caller has waited long enough. A connection that does not answer is ended in the
background, and another takes its place.
"""

import asyncio
from collections import deque
from time import monotonic
from typing import Final, Literal, NamedTuple, TypeAlias

import asyncpg

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.statements import sql
from nexus_graph.store.database import (
    Pool,
    PoolConnection,
    is_lost,
    is_read_only,
    is_servers_trouble,
    reason,
    shows_in_statements,
)

HEALTH_SECONDS: Final = 1.0
"""Seconds that a server has to answer a health check: one that takes longer counts as away."""


_LOG = telemetry.log("record")

_CANCEL_SECONDS: Final = 0.25
"""How long a server may take to confirm a cancellation; a connection that takes longer is ended."""

_RENEW_SECONDS: Final = 1.0
"""Connections to a server that takes no writes are given up no more often than this: its successor may take a while."""

_TROUBLE_SECONDS: Final = 5.0
"""How long a failed statement counts against the record unless it succeeds meanwhile. Then callers try again."""

_Place: TypeAlias = "PoolConnection | None"
"""A place for one statement at a time: its connection, or None where there is none yet."""


class Condition(NamedTuple):
    """The condition of a server, as health checks report it.

    `degraded`: a part does not work, or works slowly; `down`: its main task does not work.
    """

    status: Literal["ok", "degraded", "down"]
    reason: str | None = None
    """The fault, as a predicate of the server: "refuses the login"."""


WELL: Final = Condition("ok")


class _Trouble(NamedTuple):
    """A statement that the server failed: when, and why."""

    statement: str
    at: float
    reason: str


class Record:
    """The record through a pool's connections, which are kept between statements: to take one and give it back is a
    third of what a statement costs the client. Other users of the pool would wait without end.
    """

    def __init__(self, pool: Pool, settings: Settings, *, patience_seconds: float | None = None) -> None:
        """`patience_seconds`: a statement may take so long before `condition` calls it hung; None: what a health check
        may take. Statements that wait for locks get more.
        """
        self._pool = pool
        self._timeout_seconds = settings.identify_timeout_seconds
        self._statement_seconds = settings.statement_timeout_seconds + 1  # the server's own bound comes first
        self._patience_seconds = HEALTH_SECONDS if patience_seconds is None else patience_seconds
        self._free: list[_Place] = [None] * pool.get_max_size()
        self._turns: deque[asyncio.Future[_Place]] = deque()
        self._returning: set[asyncio.Task[None]] = set()
        self._renewed_at = float("-inf")
        self._moved_at = monotonic()
        """When a statement last began or ended."""
        self._trouble: _Trouble | None = None
        """The last failure; None once its statement has succeeded since."""

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The statement's rows. Raises Unavailable for any trouble of the server; errors of the data pass through."""
        deadline = monotonic() + self._timeout_seconds
        try:
            try:
                rows = await self._sent(deadline, statement, arguments)
            except Exception as error:
                if not is_lost(error) or monotonic() >= deadline:
                    raise
                _LOG.warning("connection_lost", error=telemetry.error_name(error))
                rows = await self._sent(deadline, statement, arguments)
        except Exception as error:
            if not is_servers_trouble(error):
                raise
            raise self._unavailable(error, statement) from error
        if self._trouble is not None and self._trouble.statement == statement:
            self._trouble = None
        return rows

    async def condition(self) -> Condition:
        """Whether the record answers and takes writes, within the time of a health check.

        Where all connections are in use, it is hung if no statement has begun or ended for longer than one may take. A
        statement that just failed for trouble that no connection shows speaks against it for a while.
        """
        began = monotonic()
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                place = await self._turn()
        except TimeoutError:
            hung = monotonic() - self._moved_at >= self._patience_seconds
            return Condition("down", "does not answer in time") if hung else WELL
        try:
            ((standby, read_only),) = await self._sent_on(place, began + HEALTH_SECONDS, sql("record_condition"), ())
        except Exception as error:  # noqa: BLE001 - any way of not answering is not answering
            return Condition("down", reason(error))
        if standby or read_only:
            self._renew()
            return Condition("down", "is a standby, which takes no writes" if standby else "is read-only")
        if self._trouble is not None and monotonic() - self._trouble.at < _TROUBLE_SECONDS:
            return Condition("down", self._trouble.reason)
        return WELL

    async def close(self) -> None:
        """Give the connections back. No statement may be under way."""
        for place in self._free:
            self._give_back(place)
        self._free.clear()
        while self._returning:
            await asyncio.wait(self._returning)

    async def _sent(self, deadline: float, statement: str, arguments: tuple[object, ...]) -> list[asyncpg.Record]:
        if self._free:
            place = self._free.pop()
        else:
            async with asyncio.timeout(deadline - monotonic()):
                place = await self._turn()
        return await self._sent_on(place, deadline, statement, arguments)

    async def _sent_on(
        self, place: _Place, deadline: float, statement: str, arguments: tuple[object, ...]
    ) -> list[asyncpg.Record]:
        """The statement's rows, by the connection of this place, which is free again afterwards."""
        connection = place
        self._moved_at = began = monotonic()
        try:
            if connection is not None and _is_lost(connection):
                self._give_back(connection)
                connection = None
            if connection is None:
                connection = await self._pool.acquire(timeout=max(0.0, deadline - began))
                began = monotonic()
            left = min(deadline - began, self._statement_seconds)
            return await connection.fetch(statement, *arguments, timeout=max(0.0, left))
        except BaseException as error:
            # Its pool knows what a connection needs after an error: to be ended, to be waited for, or nothing.
            # One that leads to a server without writes is given up with the others.
            self._give_back(connection, end=is_read_only(error) and self._renew())
            connection = None
            raise
        finally:
            self._moved_at = monotonic()
            self._put(connection)

    async def _turn(self) -> _Place:
        """A place, when it is this caller's turn."""
        if self._free:
            return self._free.pop()
        turn: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._put(turn.result())
            raise

    def _put(self, place: _Place) -> None:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(place)
                return
        # Open connections first, the most recently used before others.
        self._free.insert(0 if place is None else len(self._free), place)

    def _renew(self) -> bool:
        """Give up the connections: they may lead to a former primary. False if that was done a moment ago."""
        if monotonic() - self._renewed_at < _RENEW_SECONDS:
            return False
        self._renewed_at = monotonic()
        for number, place in enumerate(self._free):
            if place is not None:
                self._free[number] = None
                self._give_back(place, end=True)
        return True

    def _give_back(self, place: _Place, *, end: bool = False) -> None:
        """Give a connection back to its pool without waiting. `end` closes the connection."""
        if place is not None:
            returning = asyncio.get_running_loop().create_task(self._returned(place, end=end))
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)

    async def _returned(self, connection: PoolConnection, *, end: bool) -> None:
        try:
            if end:
                await connection.close(timeout=_CANCEL_SECONDS)
            await self._pool.release(connection, timeout=_CANCEL_SECONDS)
        except Exception as error:  # noqa: BLE001 - its pool has ended it, and makes another
            _LOG.debug("connection_ended", error=telemetry.error_name(error))

    def _unavailable(self, error: Exception, statement: str) -> Unavailable:
        if shows_in_statements(error):
            self._trouble = _Trouble(statement, monotonic(), reason(error))
        _LOG.warning("record_unavailable", error=telemetry.error_name(error))
        return Unavailable("the record does not answer; the same request may be sent again")


def _is_lost(connection: PoolConnection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True  # the pool takes a broken connection back by itself
