"""Open the verbs of identity on the servers that the settings name, and close them in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from neo4j import AsyncDriver

from nexus_graph.cache.families import FamilyCache
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.graph.driver import open_driver
from nexus_graph.graph.extent import gap
from nexus_graph.graph.reads import GraphFamilies
from nexus_graph.identity.families import Families
from nexus_graph.identity.feed import Feed
from nexus_graph.identity.identify import Identify
from nexus_graph.identity.listing import Listing
from nexus_graph.identity.ordered import Ordered
from nexus_graph.store.database import open_pool
from nexus_graph.store.outbox import lag
from nexus_graph.store.record import WELL, Condition, Record
from nexus_graph.store.replica import Replica

RESOLVE_CONNECTIONS: Final = 2
"""Connections to PostgreSQL for requests whose identifiers are known: one batch is answered by the server while this
process takes in the other."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The opened verbs, and the resources that health checks look at."""

    identify: Identify
    ordered: Ordered
    families: Families
    listing: Listing
    feed: Feed
    record: Record
    """For reads."""
    driver: AsyncDriver
    replica: Replica | None

    async def record_condition(self) -> Condition:
        """Down while identify fails; degraded while only reads of families and lists fail."""
        identified, read = await asyncio.gather(self.identify.condition(), self.record.condition())
        if identified is WELL and read is not WELL:
            return Condition("degraded", f"reads: {read.reason}")
        return identified

    async def relay_condition(self) -> Condition:
        """Degraded while the graph is far behind the record. Raises what the record raises."""
        return (await lag(self.record)).condition()

    async def graph_condition(self) -> Condition:
        """Degraded while the graph cannot show all of the record. Raises what the driver raises."""
        await self.driver.verify_connectivity()
        try:
            found = await gap(self.driver, self.record)
        except Unavailable:
            return WELL  # the record is away: another check reports that
        return WELL if found is None else Condition("degraded", f"{found.reason}: {found.next_step}")


@asynccontextmanager
async def open_identity(
    settings: Settings, *, resolve_connections: int = RESOLVE_CONNECTIONS
) -> AsyncIterator[Identity]:
    """The verbs, ready to call. Raises Unavailable if the record is away; the graph may be.

    Each path has connections of its own: slow reads take none from identify, and no read waits behind the write lock.
    """
    async with AsyncExitStack() as closing:
        sizes = settings.read_connections, resolve_connections, 1
        read_pool, resolve_pool, write_pool = [
            await closing.enter_async_context(open_pool(settings, role="nexus_api", size=size)) for size in sizes
        ]
        record = Record(read_pool, settings)
        closing.push_async_callback(record.close)
        # Half of a read's limit, so that a read's limit never interrupts a connection attempt.
        driver = open_driver(settings, connect_seconds=settings.graph_timeout_seconds / 2)
        closing.push_async_callback(driver.close)
        cache = None if settings.cache == "off" else FamilyCache(settings)
        if cache is not None:
            closing.push_async_callback(cache.close)
        identify = Identify(resolve_pool=resolve_pool, write_pool=write_pool, settings=settings, cache=cache)
        closing.push_async_callback(identify.close)
        ordered = Ordered(identify, settings)
        closing.push_async_callback(_ended, asyncio.create_task(ordered.expire()))
        graph = GraphFamilies(driver, settings)
        replica = None if settings.database_replica_url is None else Replica(settings)
        if replica is not None:
            closing.push_async_callback(replica.close)
        families = Families(record=record, graph=graph, settings=settings, cache=cache, replica=replica)
        closing.push_async_callback(families.close)
        closing.push_async_callback(_ended, asyncio.create_task(graph.warm()))
        feed = Feed(Listing(record), families, settings)
        closing.push_async_callback(feed.close)
        listing = Listing(record, replica=replica)
        yield Identity(identify, ordered, families, listing, feed, record, driver, replica)


async def _ended(task: asyncio.Task[None]) -> None:
    """Stop the task. Raises its error if it had failed before."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
