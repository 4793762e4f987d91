"""A relay that tests can wait for and stop at a point between its steps."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from neo4j import AsyncDriver

from nexus_graph.config import Settings
from nexus_graph.relay import Relay
from nexus_graph.store.database import Connection
from nexus_graph.store.lease import RELAY_KEY
from nexus_graph.store.outbox import Due


class StagedRelay(Relay):
    """A relay that shows what it does, with a fault point between the graph's commit and the deletion of the rows."""

    def __init__(
        self, settings: Settings, *, on_projected: Callable[[], Awaitable[None]] | None = None, key: int = RELAY_KEY
    ) -> None:
        """`on_projected` is called at the fault point. Relays with different keys have leases of their own."""
        super().__init__(settings)
        self._on_projected = on_projected
        self._lease._key = key
        self._looks = 0
        self._empty_look = 0
        self._found_empty = asyncio.Condition()
        self.active = asyncio.Event()
        """Set while this relay holds the lease."""

    async def drained(self) -> None:
        """Return once a read of the outbox that began after this call found no due row."""
        begun = self._looks
        self._wake.set()
        async with self._found_empty:
            await self._found_empty.wait_for(lambda: self._empty_look > begun)

    @asynccontextmanager
    async def _active(self) -> AsyncIterator[None]:
        async with super()._active():
            self.active.set()
            try:
                yield
            finally:
                self.active.clear()

    async def _look(self, connection: Connection, driver: AsyncDriver) -> None:
        self._looks += 1
        await super()._look(connection, driver)

    async def _wait_for_rows(self) -> None:
        async with self._found_empty:
            self._empty_look = self._looks
            self._found_empty.notify_all()
        await super()._wait_for_rows()

    async def _delete_rows(self, connection: Connection, batch: list[Due]) -> None:
        if self._on_projected is not None:
            await self._on_projected()
        await super()._delete_rows(connection, batch)
