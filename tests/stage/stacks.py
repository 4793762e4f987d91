"""A whole stack of a test's own, and what its commands say of it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexus_graph.devstack.stack import Stack


@asynccontextmanager
async def supervised(stack: Stack) -> AsyncIterator[None]:
    """Meanwhile, processes that die are started again."""
    supervising = asyncio.create_task(stack.supervise())
    try:
        yield
    finally:
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)


async def verified(stack: Stack) -> bool:
    """True if `nexus-graph verify` finds no drift between record and graph."""
    environment = {**os.environ, **stack.urls.environment()}
    verifying = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nexus_graph", "verify", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    return await verifying.wait() == 0
