"""Reading families: from the graph by traversal, from the record where the graph is behind or away.

A reader may demand `at_least` the version that a write returned: the answer is no older than that event. A family of
that version or a newer one qualifies; so does any family of a snapshot that holds the event, as the version may be
another family's. If the graph's family is older, the record answers at once. A version past every event is an error.
Every answer names its source.

A replica, if there is one, answers in the record's place. The replica shows a prefix of the commits in the order of
versions, so a reader that sees a version there sees all earlier ones. If the replica lacks the family or is too old,
the primary answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache, partial
from time import monotonic
from typing import Final, TypeAlias, cast

import asyncpg

from nexus_graph import telemetry
from nexus_graph.cache.families import FamilyCache
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable, VersionUnknown
from nexus_graph.gather.bounds import record_bounds
from nexus_graph.gather.gatherer import Gatherer
from nexus_graph.graph.reads import GraphFamilies
from nexus_graph.model import Family, FamilyKey, Source
from nexus_graph.statements import sql
from nexus_graph.store.record import Record
from nexus_graph.store.replica import Replica

WAIT_STEP_SECONDS: Final = 0.02
"""Seconds between two walks for a reader that waits for a version: a fifth of the graph's usual delay."""


_Fetch: TypeAlias = Callable[..., Awaitable[list[asyncpg.Record]]]
_ReadRecord: TypeAlias = Callable[[FamilyKey, int | None], Awaitable[Family | None]]

_reads = cache(telemetry.FAMILY_READS.labels)
_record_reads = cache(telemetry.RECORD_READS.labels)


class Families:
    """Family reads. `graph` answers by walking identifiers; `replica` and `record` by a recursive query."""

    def __init__(
        self,
        *,
        record: Record,
        graph: GraphFamilies,
        settings: Settings,
        cache: FamilyCache | None = None,
        replica: Replica | None = None,
    ) -> None:
        self._cache = cache
        self._primary = record
        self._graph = graph
        bounds = record_bounds(settings)
        self._record = Gatherer("record", partial(_families, record.fetch), bounds)
        self._replayed = None if replica is None else Gatherer("replica", partial(_families, replica.fetch), bounds)
        self._newest = Gatherer("newest", self._read_newest, bounds)

    async def family(
        self, key: FamilyKey, *, at_least: int | None = None, source: Source | None = None
    ) -> Family | None:
        """The family that `key` belongs to; None if there is none.

        source: GRAPH or RECORD insists on that store; None lets the graph answer when it can and is fresh enough, and
        the cache before it. Raises Unavailable when the store that must answer does not, VersionUnknown where no event
        has the version.
        """
        if self._cache is not None and source is None:
            # Not from the replica: its lag would add to the age that the cache may have.
            return await self._cache.family(key, at_least, lambda: self._read(key, at_least, None, self._from_primary))
        return await self._read(key, at_least, source, self._from_record)

    async def current(self, key: FamilyKey) -> Family | None:
        """The primary's current family; None if there is none. Raises Unavailable."""
        return self._counted(await self._from_primary(key, None), fallback="asked")

    async def close(self) -> None:
        """Answer the waiting readers, then stop."""
        await self._graph.close()
        if self._replayed is not None:
            await self._replayed.close()
        await self._newest.close()
        await self._record.close()

    async def reach(self, version: int) -> None:
        """Return if the record has the event of this version. Raises VersionUnknown, Unavailable."""
        newest = await self._newest.ask(version)
        if version > newest:
            raise VersionUnknown(f"no event has this version: the newest is {newest}", field="atLeast", newest=newest)

    async def _read(
        self, key: FamilyKey, at_least: int | None, source: Source | None, from_record: _ReadRecord
    ) -> Family | None:
        if source is Source.RECORD:
            return self._counted(await from_record(key, at_least), fallback="asked")
        if source is Source.GRAPH:
            return self._counted(await self._by_graph(key, at_least), fallback="none")
        try:
            family = await self._graph.family(key)
        except Unavailable:
            family = None
        if family is not None and _is_fresh(family, at_least):
            return self._counted(family, fallback="none")
        return self._counted(await from_record(key, at_least), fallback="graph")

    async def _from_record(self, key: FamilyKey, at_least: int | None) -> Family | None:
        """The record's family: the replica's if it is fresh enough, else the primary's."""
        if self._replayed is None:
            return await self._from_primary(key, at_least)
        try:
            family = await self._replayed.ask(key)
        except Unavailable:
            return await self._from_primary(key, at_least, fallback="away")
        # Only the primary may say that there is no family: the replica may be behind.
        if family is None or not _is_fresh(family, at_least):
            return await self._from_primary(key, at_least, fallback="behind")
        _record_reads("replica", "none").inc()
        return family

    async def _from_primary(self, key: FamilyKey, at_least: int | None, *, fallback: str = "none") -> Family | None:
        """Raises VersionUnknown, Unavailable."""
        family = await self._record.ask(key)
        if at_least is not None and not _is_fresh(family, at_least):
            # The version is another family's or unknown, or its event came after this read.
            await self.reach(at_least)
            family = await self._record.ask(key)
        _record_reads("primary", fallback).inc()
        return family

    async def _by_graph(self, key: FamilyKey, at_least: int | None) -> Family | None:
        """The family for a reader that insists on the graph. The reader waits only for a version that the record has.

        Raises VersionUnknown, Unavailable.
        """
        family = await self._graph.family(key, insist=True)
        if at_least is None or _is_fresh(family, at_least):
            return family
        wanted = at_least
        try:
            current = await self._from_primary(key, at_least)
        except Unavailable:
            pass  # nothing but the version itself will do
        else:
            if current is None:
                return None
            wanted = min(at_least, current.version)
        deadline = monotonic() + self._graph.wait_max_seconds
        while not _is_fresh(family, wanted):
            if monotonic() >= deadline:
                raise Unavailable("the graph has not reached that version yet")
            await asyncio.sleep(WAIT_STEP_SECONDS)
            family = await self._graph.family(key, insist=True)
        return family

    async def _read_newest(self, versions: list[int]) -> list[int]:
        ((newest,),) = await self._primary.fetch(sql("newest_event"))
        return [newest] * len(versions)

    @staticmethod
    def _counted(family: Family | None, *, fallback: str) -> Family | None:
        source = "none" if family is None else family.source.value
        _reads(source, fallback).inc()
        return family


def _is_fresh(family: Family | None, at_least: int | None) -> bool:
    return at_least is None or (family is not None and family.version >= at_least)


async def _families(fetch: _Fetch, keys: list[FamilyKey]) -> list[Family | None]:
    """The families of the keys, in order, from the server behind `fetch`. Raises what `fetch` raises."""
    contact_ids = await _contact_ids(fetch, keys)
    rows = await fetch(sql("family_of_contact"), [i for i in contact_ids if i is not None])
    families = {row[0]: Family.of_columns(*row[1:]) for row in rows}
    return [families.get(i) if i is not None else None for i in contact_ids]


async def _contact_ids(fetch: _Fetch, keys: list[FamilyKey]) -> list[int | None]:
    emails = [key.value for key in keys if key.kind == "email"]
    phones = [key.value for key in keys if key.kind == "phone"]
    found: dict[tuple[str, int | str], int] = {}
    if emails or phones:
        for kind, value, contact_id in await fetch(sql("contacts_by_identifier"), emails, phones):
            found[kind, value] = contact_id
    return [cast("int", key.value) if key.kind == "contact" else found.get((key.kind, key.value)) for key in keys]
