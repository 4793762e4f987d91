"""Both servers, opened for a command that runs once and ends."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from neo4j import AsyncDriver

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.graph.driver import is_graphs_trouble, open_driver
from nexus_graph.store.database import Pool, connect_pool, is_servers_trouble


@asynccontextmanager
async def opened(settings: Settings, *, connections: int) -> AsyncIterator[tuple[Pool, AsyncDriver]]:
    """A pool that reads the record, and a driver. Raises Unavailable if the record is away."""
    pool = await connect_pool(settings, role="nexus_relay", size=connections, server="direct")
    try:
        async with open_driver(settings) as driver:
            yield pool, driver
    finally:
        await pool.close()


def without_traceback(command: Callable[[], int]) -> int:
    """The command's exit code; 1, with a reason on stderr, if a server does not answer."""
    try:
        return command()
    except Exception as error:
        if isinstance(error, Unavailable):
            reason = error.message
        elif is_graphs_trouble(error) or is_servers_trouble(error):
            reason = f"a server does not answer ({telemetry.error_name(error)})"
        else:
            raise
        sys.stderr.write(f"nexus-graph: {reason}\n")
        return 1
