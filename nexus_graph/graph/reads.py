"""Families by traversal: what the graph finds when it walks identifiers and evidence."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from neo4j import AsyncDriver

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.gather import Gatherer
from nexus_graph.graph.driver import ask, connect, is_graphs_trouble
from nexus_graph.identity.model import Contact, Family, FamilyKey, Source

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOG = telemetry.log("graph_reads")

# A contact as the walk returns it: id, email, phone, microseconds since 1970.
_Member = tuple[int, str | None, str | None, int]


class GraphFamilies:
    """Family reads from the graph, gathered across concurrent callers."""

    def __init__(self, driver: AsyncDriver, settings: Settings) -> None:
        self._driver = driver
        self._timeout_seconds = settings.graph_timeout_seconds
        self._warm_seconds = settings.graph_warm_seconds
        self._walks: Gatherer[FamilyKey, Family | None] = Gatherer(
            "graph",
            self._walk,
            batch_max=settings.graph_batch_max_reads,
            batches_max=settings.graph_read_batches,
            queue_max=settings.graph_queue_max_reads,
            wait_max_seconds=settings.graph_timeout_seconds,
            timeout_seconds=settings.graph_timeout_seconds,
            half_min=settings.batch_half_min_requests,
            patience_seconds=settings.batch_patience_seconds,
            serves=_is_of,
        )

    async def family(self, key: FamilyKey) -> Family | None:
        """The family that `key` belongs to; None if the graph cannot say: it does not know the key, or was seen in the
        middle of a change. Never a family in part. Raises Unavailable (Overloaded) if it does not answer in time.
        """
        return await self._walks.ask(key) if _can_be_sent(key.value) else None

    async def warm(self) -> None:
        """Let the graph's server plan the walk before anyone waits for it. Quietly nothing if it is away."""
        nobody: dict[str, Any] = {"contacts": [], "emails": [], "phones": []}
        try:
            await connect(self._driver)
            await ask(self._driver, "families", nobody, timeout_seconds=self._warm_seconds)
        except Exception as error:
            if not is_graphs_trouble(error):
                raise
            _LOG.warning("graph_not_warmed", error=telemetry.error_name(error))

    async def close(self) -> None:
        """Answer what was asked, then stop. The driver stays open."""
        await self._walks.close()

    async def _walk(self, keys: list[FamilyKey]) -> Sequence[Family | None]:
        wanted: dict[str, list[int | str]] = {"contact": [], "email": [], "phone": []}
        for key in dict.fromkeys(keys):
            wanted[key.kind].append(key.value)
        parameters = {"contacts": wanted["contact"], "emails": wanted["email"], "phones": wanted["phone"]}
        try:
            async with asyncio.timeout(self._timeout_seconds):
                (rows,) = await ask(self._driver, "families", parameters, timeout_seconds=self._timeout_seconds)
        except Exception as error:
            if not is_graphs_trouble(error):
                raise
            _LOG.warning("graph_unavailable", error=telemetry.error_name(error))
            raise Unavailable("the graph does not answer") from error
        found = dict(_found(rows))
        telemetry.GRAPH_READS_IN_DOUBT.labels("unknown").inc(sum(map(len, wanted.values())) - len(found))
        return [found.get((key.kind, key.value)) for key in keys]


def _found(rows: list[tuple[Any, ...]]) -> Iterator[tuple[tuple[str, int | str], Family | None]]:
    """Each key of a walk with the family, if the walk met the key's contact."""
    for keys, version, heads, housed, members in rows:
        family = _family(version, heads, housed, members)
        for kind, value, contact_id in keys:
            # The only key of a walk is where it began.
            met = family is not None and (len(keys) == 1 or contact_id in family.ids)
            yield (kind, value), family if met else None


def _is_of(family: Family | None, key: FamilyKey) -> bool:
    return family is not None and family.is_known_by(key)


def _can_be_sent(value: int | str) -> bool:
    """Has it a form on the wire? One value that has none would fail the whole batch; and nothing is known by it."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _family(version: int | None, heads: list[list[Any]], housed: int, members: list[list[Any]]) -> Family | None:
    """The family, if all that the walk met agrees on it; None where it was torn by a change or has drifted."""
    if len(heads) == 1:
        family_id, version_after, size = heads[0]
        if version is not None and version == version_after and size == housed == len(members):
            # A date that Python has no name for, or a node that lacks what every contact has.
            with suppress(OverflowError, TypeError):
                if size > 1:
                    members.sort(key=lambda member: (member[0] != family_id, member[3], member[0]))
                if members[0][0] == family_id:
                    return Family(version, tuple(map(_contact, cast("list[_Member]", members))), Source.GRAPH)
    telemetry.GRAPH_READS_IN_DOUBT.labels("torn").inc()
    return None


def _contact(member: _Member) -> Contact:
    contact_id, email, phone, micros = member
    # Exact, and thirty times as fast as the driver's own conversion.
    return Contact(contact_id, email, phone, _EPOCH + timedelta(0, 0, micros))
