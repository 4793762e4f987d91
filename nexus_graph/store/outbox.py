"""The queue of families whose changes the graph still lacks. Rows hold ids, never an identifier.

A row means "project this family again". The relay deletes a row by its own number, after a read of the family that
began when the row existed. It never deletes "all rows up to here", so the order of commits cannot skip a row.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Final, NamedTuple, cast

from nexus_graph import telemetry
from nexus_graph.statements import sql
from nexus_graph.store.database import CONNECTION_LOST, Connection, Pool, PoolConnection
from nexus_graph.store.lease import LEASE_SECONDS, RELAY_KEY
from nexus_graph.store.record import WELL, Condition, Record

COUNTED_MAX: Final = 100_000
"""The outbox's depth is counted no further: past it the exact number is of no use, and counting costs."""

TRIES_MAX: Final = 5
"""Tries of a family whose data the graph refuses, before its rows are parked for an operator."""

RETRY_BASE_SECONDS: Final = 0.5
"""Seconds before the second try; each further pause is twice as long."""

RETRY_MAX_SECONDS: Final = 30.0
"""The longest pause between two tries, in seconds."""

BEHIND_MAX_SECONDS: Final = 5.0
"""Age of a change that the graph lacks, past which the graph counts as degraded: a relay that replaces another is at
work by then."""

BATCH_CONTACTS: Final = 5_000
"""A transaction takes no further family once it holds so many contacts and evidence rows: it must end in time."""


_CHANNEL: Final = "outbox"


@asynccontextmanager
async def noticed(connection: "Connection | PoolConnection", notice: asyncio.Event) -> AsyncIterator[None]:
    """Set `notice` at each commit that changes a family; a hint, as notices may be lost."""

    def heard(*_: object) -> None:
        notice.set()

    session = cast("Connection", connection)  # asyncpg's proxy has every method of a connection
    await session.add_listener(_CHANNEL, heard)
    try:
        yield
    finally:
        with suppress(*CONNECTION_LOST):
            await session.remove_listener(_CHANNEL, heard)


class Due(NamedTuple):
    """A family that is due."""

    family_id: int
    due: list[int]
    """The rows that ask for it now."""
    seqs: list[int]
    """Those, and its rows that had failed before: one look at the family answers all of them."""


async def read_due(connection: Connection, *, rows_max: int) -> list[Due]:
    """The next families, the longest waiting first, for at most so many rows; empty if none is due."""
    rows = await connection.fetch(sql("outbox_due"), rows_max, BATCH_CONTACTS)
    return [Due(*row) for row in rows]


async def done(connection: Connection, families: list[Due]) -> list[float]:
    """Delete exactly the rows of these families; how many seconds each had waited."""
    waited: list[float] = await connection.fetchval(sql("outbox_done"), [seq for due in families for seq in due.seqs])
    return waited


async def failed(connection: Connection, family: Due, *, error: str) -> bool:
    """Count a failure of the rows that asked for this family; True if that parked them."""
    parked: bool = await connection.fetchval(
        sql("outbox_failed"), family.due, error, TRIES_MAX, RETRY_BASE_SECONDS, RETRY_MAX_SECONDS
    )
    return parked


async def outbox_gauges(source: "Connection | Pool | Record") -> None:
    """Set the gauges of the outbox by cheap queries. Raises what the driver raises; the gauges keep their values."""
    ((depth, age, parked),) = await source.fetch(sql("outbox_gauges"), COUNTED_MAX)
    telemetry.OUTBOX_DEPTH.set(depth)
    telemetry.OUTBOX_OLDEST_AGE.set(max(age, 0.0))
    telemetry.OUTBOX_PARKED.set(parked)
    telemetry.RELAY_RENEWED_AGE.set((await lag(source)).renewed_seconds)


class Lag(NamedTuple):
    """How far the graph is behind, and whether a relay is at work."""

    seconds: float
    """Age of the oldest change that the graph lacks."""
    renewed_seconds: float
    """Seconds since a relay last renewed its lease; infinite without one."""

    def condition(self) -> Condition:
        """Degraded while the graph is behind for longer than `BEHIND_MAX_SECONDS`, with what to do."""
        if self.seconds <= BEHIND_MAX_SECONDS:
            return WELL
        behind = f"the graph is {self.seconds:,.0f} s behind"
        if self.is_relay_at_work():
            return Condition("degraded", f"{behind}; a relay is at work: its log says what keeps it")
        return Condition("degraded", f"{behind} and no relay is at work: start `nexus-graph relay`")

    def is_relay_at_work(self) -> bool:
        """True if a relay renewed its lease within the time that a lease lasts."""
        return self.renewed_seconds <= LEASE_SECONDS


async def lag(source: "Connection | Pool | Record") -> Lag:
    """One cheap query. Raises what the driver raises."""
    ((age, renewed),) = await source.fetch(sql("graph_lag"), RELAY_KEY)
    return Lag(max(age, 0.0), inf if renewed is None else max(renewed, 0.0))
