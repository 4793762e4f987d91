"""rebuild-graph: wipe the graph and write it again from the record.

The relay and the API may run meanwhile. The relay's writes and a rebuild's compare versions like any two projections; a
rebuild writes again what its wipe removed, tombstones included. Until the rebuild ends, the record answers readers
whose families are missing. A rebuild that broke off leaves a mark in the graph (`extent`), until another rebuild ends.
One rebuild runs at a time: it holds a lock of its PostgreSQL session, which ends with the process.
"""

from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

from neo4j import AsyncDriver

from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.graph.driver import ensure_constraints
from nexus_graph.graph.projection import project
from nexus_graph.graph.states import FamilyState, Progress, work_through
from nexus_graph.statements import cypher, sql
from nexus_graph.store.database import CONNECTION_LOST, Pool, PoolConnection

BATCH_FAMILIES: Final = 500
"""Families of one transaction of a rebuild: one takes less than a second."""


class RebuildUnderWay(Unavailable):
    """Another rebuild has the graph."""


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild wrote. `families` includes the families that are gone (tombstones)."""

    families: int = 0
    contacts: int = 0
    seconds: float = 0.0


async def rebuild(
    pool: Pool, driver: AsyncDriver, settings: Settings, *, progress: Progress = lambda _: None
) -> Rebuilt:
    """Wipe the graph and project every family. Raises what the drivers raise; starting again is safe. While another
    rebuild is under way, raises RebuildUnderWay and touches nothing.

    Until it has ended a mark in the graph says that the graph is partial, however it ends.
    """
    async with pool.acquire() as locking:
        if not await locking.fetchval(sql("rebuild_lock")):
            raise RebuildUnderWay("another rebuild of the graph is under way; when it ends, the graph is whole")
        try:
            return await _rebuilt(pool, locking, driver, settings, progress)
        finally:
            with suppress(*CONNECTION_LOST):  # then the server has ended the session, and its lock
                await locking.fetchval(sql("rebuild_unlock"))


async def _rebuilt(
    pool: Pool, locking: PoolConnection, driver: AsyncDriver, settings: Settings, progress: Progress
) -> Rebuilt:
    began = monotonic()
    rebuilt = Rebuilt()
    for step in ("rebuild_begins", "wipe", "wipe_families"):
        await _run_alone(driver, step)
    await ensure_constraints(driver)

    async def write(states: list[FamilyState]) -> None:
        await project(driver, states, settings, whole=True)
        rebuilt.families += len(states)

    rebuilt.contacts = await work_through(pool, write, families_max=BATCH_FAMILIES, progress=progress)
    for step in ("drop_homeless", "drop_untied"):
        await _run_alone(driver, step)
    await locking.fetchval(sql("ping"))  # raises if the session broke, and with it the lock: another may have wiped
    await _run_alone(driver, "rebuild_ends")
    rebuilt.seconds = monotonic() - began
    return rebuilt


async def _run_alone(driver: AsyncDriver, name: str) -> None:
    """A statement that divides itself into transactions."""
    async with driver.session() as session:
        await (await session.run(cypher(name))).consume()
