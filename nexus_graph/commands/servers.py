"""Both servers, opened for a command that runs once and ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from neo4j import AsyncDriver

from nexus_graph.config import Settings
from nexus_graph.graph.driver import open_driver
from nexus_graph.store.database import Pool, open_pool


@asynccontextmanager
async def opened(settings: Settings, *, connections: int) -> AsyncIterator[tuple[Pool, AsyncDriver]]:
    """A pool that reads the record, and a driver. Raises Unavailable if the record is away."""
    async with (
        open_pool(settings, role="nexus_relay", size=connections, server="direct") as pool,
        open_driver(settings) as driver,
    ):
        yield pool, driver
