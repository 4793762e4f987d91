"""Families by traversal: the graph walks from an identifier through contacts and evidence.

Trouble of the graph does not reach readers. A reader leaves a walk that takes longer than usual (`patience`), and the
walk ends without a reader. Then no reader asks the graph until the probe, a task of its own, had an answer in time. So
only the reads under way wait for a graph that hangs, each for a moment, and no reader waits for a graph that comes
back: the probe has let Neo4j plan the walk first.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final, cast

from neo4j import AsyncDriver
from neo4j.exceptions import AuthError

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.gather.bounds import Bounds, bounds_within
from nexus_graph.gather.gatherer import Gatherer, Sharing
from nexus_graph.graph.driver import ask, connect, is_graphs_trouble, is_too_much
from nexus_graph.model import Contact, Family, FamilyKey, Source
from nexus_graph.tasks import is_set_within, raise_if_cancelled

WAIT_MAX_SECONDS: Final = 0.5
"""Seconds that a reader who insists on the graph waits for a graph that is not in use, or for a version that the graph
lacks: several times what the relay usually takes."""

_WARM_SECONDS: Final = 30.0
"""Seconds that a cold server has to plan the walk, before any reader waits for it."""

_AWAY_SECONDS: Final = 0.25
"""Seconds between two looks for a graph that did not answer in time; no reader waits for that."""


_REFUSED_SECONDS: Final = 10.0
"""The pause after a refused login: Neo4j locks out a user after several refused logins."""

_WEIGHT: Final = 1 / 8
_DEVIATION_WEIGHT: Final = 1 / 4
_DEVIATIONS: Final = 4
"""The usual time and four deviations, smoothed with these weights: as TCP decides that a segment is lost (RFC 6298)."""

_SLOW_FACTOR: Final = 2
"""A graph that is usually slower than the least patience is given up to so many times as much."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOG = telemetry.log("graph_reads")

# A contact in a walk's answer: id, email, phone, microseconds since 1970.
_Member = tuple[int, str | None, str | None, int]


class GraphFamilies:
    """Family reads from the graph, in batches across concurrent callers."""

    def __init__(self, driver: AsyncDriver, settings: Settings, bounds: Bounds | None = None) -> None:
        """`bounds` are those of a server with `graph_timeout_seconds` if not given."""
        self._driver = driver
        self._settings = settings
        self._patience = Patience(settings.graph_patience_seconds, most_seconds=settings.graph_timeout_seconds)
        bounds = bounds or bounds_within(settings.graph_timeout_seconds)
        self._walks = Gatherer("graph", self._walk_soon, bounds, Sharing(_is_of))
        self._insisting = Gatherer("graph", self._walk, bounds, Sharing(_is_of))
        self._latest: FamilyKey | None = None
        """The key that a reader asked for last while the graph was not in use. The probe walks from this key."""
        self._probing: asyncio.Task[None] | None = None
        self.wait_max_seconds = WAIT_MAX_SECONDS
        self.joined = asyncio.Event()
        """Set while the graph answers readers."""
        self.joined.set()
        telemetry.GRAPH_JOINED.set(1)

    async def family(self, key: FamilyKey, *, insist: bool = False) -> Family | None:
        """The family that `key` belongs to; None if the graph does not know the key or was read in the middle of a
        change. The result is never a part of a family.

        Raises Unavailable at once while the graph is not in use, and within the patience if the graph does not answer;
        Overloaded if too many readers wait. With `insist` a reader waits longer: up to `WAIT_MAX_SECONDS` for a
        graph that is not in use, then `graph_timeout_seconds` for the walk.
        """
        if not _can_be_sent(key.value):
            return None
        if not self.joined.is_set():
            self._latest = key
            if not insist or not await is_set_within(self.joined, self.wait_max_seconds):
                raise Unavailable("the graph does not answer")
        return await (self._insisting if insist else self._walks).ask(key)

    async def warm(self) -> None:
        """Let Neo4j plan the walk before the first reader comes. If Neo4j is away, the probe goes on."""
        try:
            await connect(self._driver)
            await self._rows((), _WARM_SECONDS)
        except Exception as error:
            if not is_graphs_trouble(error):
                raise
            self._leave(error)

    async def close(self) -> None:
        """Answer the waiting readers, then stop. The driver stays open."""
        await self._walks.close()
        await self._insisting.close()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})

    async def _walk_soon(self, keys: list[FamilyKey]) -> Sequence[Family | None]:
        """The families of the keys, within the patience of readers that do not insist. Raises Unavailable."""
        if not self.joined.is_set():
            raise Unavailable("the graph does not answer")
        began = monotonic()
        late = asyncio.get_running_loop().call_later(self._patience.seconds, self._is_late, keys[0])
        try:
            families = await self._walk(keys)
        finally:
            late.cancel()
        if self.joined.is_set():
            self._patience.learn(monotonic() - began)
        return families

    def _is_late(self, key: FamilyKey) -> None:
        """A walk takes longer than readers wait: answer them all. The walk ends without a reader."""
        self._latest = key
        self._leave(TimeoutError())
        self._walks.fail(Unavailable("the graph does not answer in time"))

    async def _walk(self, keys: list[FamilyKey]) -> list[Family | None]:
        distinct = dict.fromkeys(keys)
        try:
            rows = await self._rows(distinct, self._settings.graph_timeout_seconds)
        except Exception as error:
            if is_too_much(error):  # these families are too large; the graph is well
                _LOG.warning("walk_refused", error=telemetry.error_name(error))
                raise Unavailable("the graph cannot walk this family in time") from error
            if not is_graphs_trouble(error):
                raise
            self._leave(error)
            raise Unavailable("the graph does not answer") from error
        found = dict(_found(rows))
        telemetry.GRAPH_READS_IN_DOUBT.labels("unknown").inc(len(distinct) - len(found))
        return [found.get((key.kind, key.value)) for key in keys]

    async def _rows(self, keys: Iterable[FamilyKey], timeout_seconds: float) -> list[tuple[Any, ...]]:
        wanted: dict[str, list[int | str]] = {"contact": [], "email": [], "phone": []}
        for key in keys:
            wanted[key.kind].append(key.value)
        parameters = {"contacts": wanted["contact"], "emails": wanted["email"], "phones": wanted["phone"]}
        async with asyncio.timeout(timeout_seconds):
            (rows,) = await ask(self._driver, "families", parameters, timeout_seconds=timeout_seconds)
        return cast("list[tuple[Any, ...]]", rows)

    def _leave(self, error: Exception) -> None:
        """Stop using the graph until the probe had an answer in time."""
        if not self.joined.is_set():
            return
        _LOG.info("graph_left_alone", error=telemetry.error_name(error))
        self.joined.clear()
        telemetry.GRAPH_JOINED.set(0)
        self._probing = asyncio.get_running_loop().create_task(self._probe(), context=Context())

    async def _probe(self) -> None:
        told = False
        while not self.joined.is_set():
            raise_if_cancelled()
            try:
                await self._walks.drained()  # walks without a reader would hold up the readers to come
                await connect(self._driver)
                await self._rows((), _WARM_SECONDS)
                await self._answers_in_time()
            except Exception as error:  # noqa: BLE001 - whatever keeps it away, it is looked for again
                if not told:
                    _LOG.warning("graph_away", error=telemetry.error_name(error))
                told = True
                await asyncio.sleep(_REFUSED_SECONDS if isinstance(error, AuthError) else _AWAY_SECONDS)
            else:
                self.joined.set()
        telemetry.GRAPH_JOINED.set(1)
        _LOG.info("graph_joined")

    async def _answers_in_time(self) -> None:
        """Raises TimeoutError if the walk took longer than a reader would wait. The probe uses each reader's key once:
        a family that takes long keeps the graph from other readers for this one walk only.
        """
        latest, self._latest = self._latest, None
        began = monotonic()
        await self._rows(() if latest is None else (latest,), self._settings.graph_timeout_seconds)
        seconds = monotonic() - began
        self._patience.forget()
        self._patience.learn(seconds)
        if seconds > self._patience.most_seconds:
            raise TimeoutError


class Patience:
    """How long a reader waits for the graph before the record answers instead: a little longer than walks usually take,
    as learned from the walks that were answered in time.
    """

    def __init__(self, least_seconds: float, *, most_seconds: float) -> None:
        self._least = min(least_seconds, most_seconds)
        self.most_seconds = min(_SLOW_FACTOR * least_seconds, most_seconds)
        """No reader waits longer, and a graph that needs longer is not used."""
        self._usual: float | None = None
        self._deviation = 0.0

    @property
    def seconds(self) -> float:
        """What a reader waits now."""
        if self._usual is None:
            return self.most_seconds
        return min(max(self._usual + _DEVIATIONS * self._deviation, self._least), self.most_seconds)

    def learn(self, seconds: float) -> None:
        """Take a walk that took so long into account."""
        if self._usual is None:
            self._usual, self._deviation = seconds, seconds / 2
            return
        self._deviation += _DEVIATION_WEIGHT * (abs(seconds - self._usual) - self._deviation)
        self._usual += _WEIGHT * (seconds - self._usual)

    def forget(self) -> None:
        """Forget the past: a graph that returns may be slower or quicker than before."""
        self._usual = None


def _found(rows: list[tuple[Any, ...]]) -> Iterator[tuple[tuple[str, int | str], Family | None]]:
    """Each key with its family, if the walk met the key's contact."""
    for keys, version, heads, housed, members in rows:
        family = _family(version, heads, housed, members)
        for kind, value, contact_id in keys:
            # A walk with one key began at that key.
            met = family is not None and (len(keys) == 1 or contact_id in family.ids)
            yield (kind, value), family if met else None


def _is_of(family: Family | None, key: FamilyKey) -> bool:
    return family is not None and family.is_known_by(key)


def _can_be_sent(value: int | str) -> bool:
    """False for a value that the wire protocol cannot carry: no contact has that value, and it would fail the whole
    batch.
    """
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _family(version: int | None, heads: list[list[Any]], housed: int, members: list[list[Any]]) -> Family | None:
    """The family, if all nodes of the walk agree; None if a change was half visible or the graph has drifted."""
    if len(heads) == 1:
        family_id, version_after, size = heads[0]
        if version is not None and version == version_after and size == housed == len(members):
            # A date beyond Python's years, or a node without a contact's properties.
            with suppress(OverflowError, TypeError):
                if size > 1:
                    members.sort(key=lambda member: (member[0] != family_id, member[3], member[0]))
                if members[0][0] == family_id:
                    return Family(version, tuple(map(_contact, cast("list[_Member]", members))), Source.GRAPH)
    telemetry.GRAPH_READS_IN_DOUBT.labels("torn").inc()
    return None


def _contact(member: _Member) -> Contact:
    contact_id, email, phone, micros = member
    # Exact, and thirty times as fast as the driver's conversion.
    return Contact(contact_id, email, phone, _EPOCH + timedelta(0, 0, micros))
