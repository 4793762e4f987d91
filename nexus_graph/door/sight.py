"""Which families a service may read by id: those that it identified.

A family that a service identified is in its sight at once in the same process, and in all others once the record has
it, within `WRITE_SECONDS` as a rule. What is not stored yet when a process is killed is out of sight until the service
identifies the family again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context
from typing import Any, Final

from nexus_graph import telemetry
from nexus_graph.errors import Unavailable
from nexus_graph.statements import sql

WRITE_SECONDS: Final = 0.05
"""The pause between two batches."""

REMEMBERED_MAX: Final = 100_000
"""Families that a process remembers to be in somebody's sight, some 20 MB: it does not store these again."""

BATCH_MAX: Final = 1_000
"""Rows of one statement."""

WAITING_MAX: Final = 100_000
"""Rows that wait while the record is away; past it the oldest go, and the services identify these families again."""

_RETRY_SECONDS: Final = 0.5
_LOG = telemetry.log("sight")
_Seen = tuple[str, int]
"""A principal's name and a family id."""


class Sight:
    """The sight of all services, by one process. `fetch` runs a statement of the record."""

    def __init__(self, fetch: Callable[..., Awaitable[list[Any]]]) -> None:
        self._fetch = fetch
        self._remembered: OrderedDict[_Seen, None] = OrderedDict()
        self._waiting: dict[_Seen, None] = {}
        self._writing: asyncio.Task[None] | None = None
        self._closing = False

    def note(self, principal: str, family_id: int) -> None:
        """The principal identified this family. No I/O."""
        seen = principal, family_id
        if seen in self._remembered:
            self._remembered.move_to_end(seen)
            return
        self._remember(seen)
        self._waiting[seen] = None
        if len(self._waiting) > WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), context=Context())

    async def among(self, principal: str, family_ids: Collection[int]) -> frozenset[int]:
        """Those of the families that are in the principal's sight. Raises Unavailable."""
        seen = {family_id for family_id in family_ids if (principal, family_id) in self._remembered}
        asked = [family_id for family_id in family_ids if family_id not in seen]
        if asked:
            unstored = [family_id for name, family_id in self._waiting if name == principal]
            for (family_id,) in await self._fetch(sql("sightings_among"), principal, asked, unstored):
                seen.add(family_id)
                self._remember((principal, family_id))
        return frozenset(seen)

    async def close(self) -> None:
        """Store what waits, as far as the record takes it."""
        self._closing = True
        if self._writing is not None:
            await asyncio.wait({self._writing})

    def _remember(self, seen: _Seen) -> None:
        self._remembered[seen] = None
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)

    async def _write(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0 if self._closing else WRITE_SECONDS)
                batch = list(self._waiting)[:BATCH_MAX]
                try:
                    await self._fetch(sql("sightings_add"), *map(list, zip(*batch, strict=True)))
                except Unavailable as error:
                    if self._closing:
                        _LOG.warning("sight_lost", families=len(self._waiting), error=telemetry.error_name(error))
                        return
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                for seen in batch:
                    self._waiting.pop(seen, None)
        finally:
            self._writing = None
