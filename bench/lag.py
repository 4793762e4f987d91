"""How far the graph is behind the record, watched from outside the relay while the load runs.

Two independent looks: the age of the oldest row of the outbox, sampled; and probes, each a write of our own whose
family is then asked of the graph until it has the version that was written.
"""

import asyncio
from time import perf_counter
from typing import Final, NamedTuple, Self
from uuid import UUID

from neo4j import AsyncDriver, Query, RoutingControl

from bench.statements import statement
from bench.workload import PROBES, Pairing
from nexus_graph.store.database import Pool

SAMPLE_SECONDS: Final = 0.1
PROBE_SECONDS: Final = 0.4
PROBE_STEP_SECONDS: Final = 0.02
PROBE_LAG_MAX_SECONDS: Final = 30.0
"""A probe that the graph has not seen by then counts as this late."""
DRAIN_STEP_SECONDS: Final = 0.02
PROBE_REQUEST: Final = UUID("00000000-0000-4000-8000-0000be4c4a6e")
"""The request id of every probe's write: by it they are told from the load's."""


class Sight(NamedTuple):
    """How late the graph was, once."""

    arm: str
    """Under which load."""
    seconds: float


class LagWatch:
    """Watches while it is open; what it sees counts only while `arm` says under which load."""

    def __init__(self, pool: Pool, driver: AsyncDriver) -> None:
        self._pool = pool
        self._driver = driver
        self.arm: str | None = None
        self.outbox_ages: list[Sight] = []
        self.probe_lags: list[Sight] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._probes = 0

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._sample()), asyncio.create_task(self._probe())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drained(self, *, timeout_seconds: float) -> bool:
        """Wait until no change waits for the graph; False if that takes too long. Raises what ended the watch, if
        anything did.
        """
        for task in self._tasks:
            if task.done():
                task.result()
        deadline = perf_counter() + timeout_seconds
        while await self._outbox_age_seconds() > 0:
            if perf_counter() > deadline:
                return False
            await asyncio.sleep(DRAIN_STEP_SECONDS)
        return True

    async def _outbox_age_seconds(self) -> float:
        return float(await self._pool.fetchval(statement("outbox_age.sql")))

    async def _sample(self) -> None:
        while True:
            arm = self.arm
            age_seconds = await self._outbox_age_seconds()
            if arm is not None:
                self.outbox_ages.append(Sight(arm, age_seconds))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _probe(self) -> None:
        while True:
            arm = self.arm
            lag_seconds = await self._probed_lag_seconds()
            if arm is not None:
                self.probe_lags.append(Sight(arm, lag_seconds))
            await asyncio.sleep(PROBE_SECONDS)

    async def _probed_lag_seconds(self) -> float:
        self._probes += 1
        email, phone = Pairing(PROBES + self._probes, PROBES + self._probes).identifiers
        ((family_id, version),) = await self._pool.fetch(statement("probe_write.sql"), email, phone, PROBE_REQUEST)
        committed = perf_counter()
        while (lag_seconds := perf_counter() - committed) < PROBE_LAG_MAX_SECONDS:
            if await self.graph_version(family_id) >= version:
                return perf_counter() - committed
            await asyncio.sleep(PROBE_STEP_SECONDS)
        return lag_seconds

    async def graph_version(self, family_id: int) -> int:
        """0 if the graph does not have the family."""
        found = await self._driver.execute_query(
            Query(statement("graph_version.cypher")),
            {"id": family_id},
            routing_=RoutingControl.READ,
        )
        return int(found.records[0]["version"]) if found.records else 0
