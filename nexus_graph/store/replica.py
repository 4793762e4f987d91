"""A read replica: a server that follows the record, and may be a little behind it.

Trouble of the replica does not reach readers: the primary answers a read that the replica does not answer in time, and
no reader asks the replica again until a task has reconnected. So only the reads under way wait for a replica that goes
away, each no longer than `TIMEOUT_SECONDS`.
"""

import asyncio
from typing import Final

import asyncpg

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import NexusError, Unavailable
from nexus_graph.statements import sql
from nexus_graph.store.database import CONNECTION_LOST, Pool, connect_pool
from nexus_graph.tasks import keep, raise_if_cancelled

TIMEOUT_SECONDS: Final = 1.0
"""Seconds that a replica has for a read, many times what reads take: then the primary answers."""

AWAY_SECONDS: Final = 1.0
"""Seconds that a failed replica is left alone before a task looks for it again; no reader waits for that."""


_LOG = telemetry.log("replica")


class Replica:
    """Reads of the replica. A read that it cannot answer raises Unavailable, and the caller asks the primary."""

    def __init__(self, settings: Settings) -> None:
        """It is away until it has been connected; that begins at once. Call it inside an event loop."""
        self._settings = settings
        self._pool: Pool | None = None
        self._left: set[Pool] = set()
        self._reads: set[asyncio.Task[list[asyncpg.Record]]] = set()
        self.joined = asyncio.Event()
        """Set while it is asked."""
        self._joining = asyncio.create_task(self._join())

    async def fetch(self, statement: str, *parameters: object) -> list[asyncpg.Record]:
        """The statement's rows, from the replayed commits. Raises Unavailable for any failure."""
        pool = self._pool
        if pool is None:
            raise Unavailable("the replica is away")
        # A task that the reader can leave: a cancelled statement would wait for the server's confirmation.
        reading = asyncio.create_task(pool.fetch(statement, *parameters))
        keep(reading, self._reads)
        try:
            if not (await asyncio.wait({reading}, timeout=TIMEOUT_SECONDS))[0]:
                raise TimeoutError
            return reading.result()
        except Exception as error:
            if isinstance(error, CONNECTION_LOST):
                self._leave(pool, error)
            else:  # the statement's own fault, such as a conflict with replay
                _LOG.warning("replica_refused", error=telemetry.error_name(error))
            raise Unavailable("the replica does not answer") from error
        finally:
            reading.cancel()

    async def up(self) -> bool:
        """Does it answer? Raises Unavailable if it does not."""
        return bool(await self.fetch(sql("ping")))

    async def close(self) -> None:
        """Let go of it, whatever is under way."""
        self._joining.cancel()
        await asyncio.wait({self._joining})
        for pool in (self._pool, *self._left):
            if pool is not None:
                pool.terminate()
        await asyncio.gather(*self._reads, return_exceptions=True)

    def _leave(self, pool: Pool, error: Exception) -> None:
        """Stop asking the replica until it is connected again."""
        if pool is not self._pool:
            return
        _LOG.warning("replica_away", error=telemetry.error_name(error))
        self._pool = None
        self.joined.clear()
        self._left.add(pool)
        # Reads under way on other connections keep their own limits.
        asyncio.get_running_loop().call_later(TIMEOUT_SECONDS, self._drop, pool)
        self._joining = asyncio.create_task(self._join(after_seconds=AWAY_SECONDS))

    def _drop(self, pool: Pool) -> None:
        self._left.discard(pool)
        pool.terminate()

    async def _join(self, *, after_seconds: float = 0.0) -> None:
        told = False
        await asyncio.sleep(after_seconds)
        while self._pool is None:
            try:
                size = self._settings.read_connections
                self._pool = await connect_pool(self._settings, role="nexus_api", size=size, server="replica")
            except Exception as error:  # noqa: BLE001 - whatever keeps it away, it is looked for again
                raise_if_cancelled()
                if not told:
                    reason = error.message if isinstance(error, NexusError) else telemetry.error_name(error)
                    _LOG.warning("replica_not_joined", reason=reason)
                told = True
                await asyncio.sleep(AWAY_SECONDS)
        self.joined.set()
        _LOG.info("replica_joined")
