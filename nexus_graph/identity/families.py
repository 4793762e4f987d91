"""Reading families: from the graph by traversal, from the record where the graph is behind or away.

A reader may demand `at_least` a version it was given by a write. The graph gets a moment to catch up; then the record
answers. Every family says which source it came from.
"""

import asyncio
from functools import cache
from time import monotonic
from typing import cast

from nexus_graph import telemetry
from nexus_graph.cache.families import FamilyCache
from nexus_graph.config import Settings
from nexus_graph.errors import NexusError, Overloaded, Unavailable
from nexus_graph.gather import Gatherer
from nexus_graph.graph.reads import GraphFamilies
from nexus_graph.identity.model import Family, FamilyKey, Source
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool, is_servers_trouble

_LOG = telemetry.log("families")
_reads = cache(telemetry.FAMILY_READS.labels)


class Families:
    """Family reads. `graph` answers by walking identifiers; `pool` reads the record with a recursive query."""

    def __init__(
        self, *, pool: Pool, graph: GraphFamilies, settings: Settings, cache: FamilyCache | None = None
    ) -> None:
        self._cache = cache
        self._pool = pool
        self._graph = graph
        self._settings = settings
        self._graph_away_until = 0.0
        self._record: Gatherer[FamilyKey, Family | None] = Gatherer(
            "record",
            self._read_record,
            batch_max=settings.graph_batch_max_reads,
            batches_max=settings.read_connections,
            queue_max=settings.graph_queue_max_reads,
            wait_max_seconds=settings.identify_wait_max_seconds,
            timeout_seconds=settings.identify_timeout_seconds,
        )

    async def family(
        self, key: FamilyKey, *, at_least: int | None = None, source: Source | None = None
    ) -> Family | None:
        """The family that `key` belongs to; None if there is none.

        source: GRAPH or RECORD insists on that store; None lets the graph answer when it can and is fresh enough, and
        the cache before it. Raises Unavailable when the store that must answer does not.
        """
        if self._cache is not None and source is None:
            return await self._cache.family(key, at_least, lambda: self._read(key, at_least, None))
        return await self._read(key, at_least, source)

    async def _read(self, key: FamilyKey, at_least: int | None, source: Source | None) -> Family | None:
        if source is Source.RECORD:
            return self._counted(await self._record.ask(key), fallback="asked")
        family = await self._from_graph(key, at_least=at_least, insist=source is Source.GRAPH)
        if family is not None or source is Source.GRAPH:
            return self._counted(family, fallback="none")
        return self._counted(await self._record.ask(key), fallback="graph")

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        await self._graph.close()
        await self._record.close()

    async def _from_graph(self, key: FamilyKey, *, at_least: int | None, insist: bool) -> Family | None:
        """The graph's family, once it is fresh enough; None if it cannot say in time."""
        if not insist and monotonic() < self._graph_away_until:
            return None
        deadline = monotonic() + self._settings.graph_wait_max_seconds
        try:
            while True:
                family = await self._graph.family(key)
                if at_least is None or (family is not None and family.version >= at_least):
                    return family
                if monotonic() >= deadline:
                    if insist:
                        raise Unavailable("the graph has not reached that version yet")
                    return None
                await asyncio.sleep(self._settings.graph_wait_step_seconds)
        except Overloaded:
            if insist:
                raise
            return None  # the graph is busy, not away
        except Unavailable:
            if insist:
                raise
            # Spare the next readers the wait; one of them tries again afterwards.
            self._graph_away_until = monotonic() + self._settings.graph_away_seconds
            return None

    async def _read_record(self, keys: list[FamilyKey]) -> list[Family | None]:
        try:
            contact_ids = await self._contact_ids(keys)
            rows = await self._pool.fetch(sql("family_of_contact"), [i for i in contact_ids if i is not None])
        except NexusError:
            raise
        except Exception as error:
            if not is_servers_trouble(error):
                raise
            _LOG.warning("record_unavailable", error=telemetry.error_name(error))
            raise Unavailable("the record does not answer; the same request may be sent again") from error
        families = {row[0]: Family.of_columns(*row[1:]) for row in rows}
        return [families.get(i) if i is not None else None for i in contact_ids]

    async def _contact_ids(self, keys: list[FamilyKey]) -> list[int | None]:
        emails = [key.value for key in keys if key.kind == "email"]
        phones = [key.value for key in keys if key.kind == "phone"]
        found: dict[tuple[str, int | str], int] = {}
        if emails or phones:
            for kind, value, contact_id in await self._pool.fetch(sql("contacts_by_identifier"), emails, phones):
                found[kind, value] = contact_id
        return [cast("int", key.value) if key.kind == "contact" else found.get((key.kind, key.value)) for key in keys]

    @staticmethod
    def _counted(family: Family | None, *, fallback: str) -> Family | None:
        source = "none" if family is None else family.source.value
        _reads(source, fallback).inc()
        return family
