"""The lease of the active relay: many relays may run, and one of them works.

The record's clock decides. The holder renews the lease. Another relay takes the lease once it has run out (its holder
is frozen or cut off) or once the holder's session is gone. A holder that returns sees the new holder and stops. For a
moment both may work, which does no harm (docs/adr/0002): the lease saves work.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import uuid4

from nexus_graph import telemetry
from nexus_graph.statements import sql
from nexus_graph.store.database import CONNECTION_LOST, Connection, Pool
from nexus_graph.tasks import raise_if_cancelled

RELAY_KEY: Final = 7954896762663234681
"""Key of the active relay's lease: "nexusrly" in ASCII, as a number."""

LEASE_SECONDS: Final = 3.0
"""Seconds after its last renewal until another relay may take a lease: a relay on a busy machine renews it in time, and
the graph does not count as degraded yet."""

_RENEWALS: Final = 3
"""How often a lease is renewed while it lasts."""

_LOG = telemetry.log("lease")


class Lease:
    """One relay's claim to be the active one."""

    def __init__(self) -> None:
        self._key = RELAY_KEY
        self._lasts_seconds = LEASE_SECONDS
        self._holder = str(uuid4())

    async def taken(self, connection: Connection) -> bool:
        """Try to take it for the session of this connection; False if another relay has it. Raises what the driver
        raises.
        """
        return await self._renewed(connection, None) is not None

    @asynccontextmanager
    async def kept(self, pool: Pool, connection: Connection, lost: asyncio.Event) -> AsyncIterator[None]:
        """Renew the lease by connections of the pool while the session of `connection` works. Sets `lost` once another
        relay has the lease, or if that is unknown. Gives the lease back at the end.
        """
        renewing = asyncio.create_task(self._renew(pool, connection.get_server_pid(), lost))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})
            with suppress(*CONNECTION_LOST):
                await connection.execute(sql("relay_lease_end"), self._key, self._holder, timeout=self._lasts_seconds)

    async def _renew(self, pool: Pool, pid: int, lost: asyncio.Event) -> None:
        while not lost.is_set():
            raise_if_cancelled()
            await asyncio.sleep(self._lasts_seconds / _RENEWALS)
            try:
                if await self._renewed(pool, pid) is None:
                    _LOG.warning("lease_lost")
                    lost.set()
            except Exception as error:  # noqa: BLE001 - whoever cannot renew it must not take it for theirs
                raise_if_cancelled()
                _LOG.warning("lease_not_renewed", error=telemetry.error_name(error))
                lost.set()

    async def _renewed(self, source: "Connection | Pool", pid: int | None) -> int | None:
        renewed: int | None = await source.fetchval(
            sql("relay_lease"), self._key, self._holder, self._lasts_seconds, pid, timeout=self._lasts_seconds
        )
        return renewed
