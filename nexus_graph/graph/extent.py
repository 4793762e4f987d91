"""Whether the graph can show all of the record: constraints stand, no rebuild broke off, no families are missing.

Health checks and doctor ask for the gap. The active relay watches: it puts constraints back, and says once what only a
command can mend.
"""

import re
from datetime import datetime
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from neo4j import AsyncDriver

from nexus_graph import telemetry
from nexus_graph.errors import Unavailable
from nexus_graph.graph.driver import ensure_constraints
from nexus_graph.statements import cypher, sql
from nexus_graph.store.database import Connection, Pool
from nexus_graph.store.outbox import lag
from nexus_graph.store.record import Record

COUNTED_MAX: Final = 10_000
"""Families of the record are counted no further: a wiped graph shows long before that, and counting costs."""

REBUILD: Final = "nexus-graph rebuild-graph"
_DUPLICATES: Final = f"if its log says that the graph holds duplicates, run `{REBUILD}`"

_LOG = telemetry.log("relay")
_parts = re.compile(r"FOR [^:]*:(\w+)[^.]*?(REQUIRE|ON) \(?\w+\.(\w+)").findall
_Source: TypeAlias = "Connection | Pool | Record"

Lack: TypeAlias = Literal["constraints", "families", "rebuild"]
"""What a graph can lack: constraints or indexes, families of the record, or the end of a rebuild."""


class Gap(NamedTuple):
    """What the graph lacks, and what mends it."""

    lack: Lack
    reason: str
    next_step: str


class _Extent(NamedTuple):
    families: int
    """Nodes of families, tombstones among them."""
    tombstones: int
    rebuilding: datetime | None
    """Since when a rebuild has been under way or broken off."""


async def missing_schema(driver: AsyncDriver) -> list[str]:
    """The constraints and indexes of constraints.cypher that the graph lacks, as `Contact.id`. Raises the driver's."""
    found = (await driver.execute_query(cypher("schema_found"))).records
    kept = {(row["what"], row["property"]) for row in found}
    unique = {(row["what"], row["property"]) for row in found if row["unique"]}
    return [
        f"{what}.{name}"
        for what, how, name in _parts(cypher("constraints"))
        if (what, name) not in (unique if how == "REQUIRE" else kept)
    ]


async def gap(driver: AsyncDriver, record: _Source) -> Gap | None:
    """What the graph lacks; None if it lacks nothing that a cheap look finds. Raises what the drivers raise."""
    if missing := await missing_schema(driver):
        return Gap("constraints", _lacks(missing), await _mend(record))
    return await _missing_content(driver, record)


async def _missing_content(driver: AsyncDriver, record: _Source) -> Gap | None:
    """The families that the graph lacks, or the end of a rebuild.

    Families are counted exactly while nothing changes. Under traffic no family counts as missing that is there: one
    that came after the count of the record is in the graph, and one that went after the count of tombstones has a node.
    Each family that waits for the relay hides at most one that is missing.
    """
    before = await _extent(driver)
    ((living, pending),) = await record.fetch(sql("families_expected"), COUNTED_MAX)
    after = await _extent(driver)
    if after.rebuilding is not None:
        return await _rebuilding(driver, record, after.rebuilding)
    lacking = living - pending - (after.families - before.tombstones)
    if lacking > 0:
        return Gap("families", f"lacks {lacking:,} families of the record, or more", f"run `{REBUILD}`")
    return None


def _lacks(missing: list[str]) -> str:
    return f"lacks its constraints or indexes on {', '.join(missing)}"


async def _extent(driver: AsyncDriver) -> _Extent:
    ((families, tombstones, rebuilding),) = (await driver.execute_query(cypher("graph_extent"))).records
    return _Extent(families, tombstones, None if rebuilding is None else rebuilding.to_native())


async def _rebuilding(driver: AsyncDriver, record: _Source, since: datetime) -> Gap | None:
    """A rebuild that holds its lock is under way. One that does not, and whose mark is still there, broke off."""
    ((under_way,),) = await record.fetch(sql("rebuild_under_way"))
    if not under_way:
        again = (await _extent(driver)).rebuilding
        if again is None:
            return None  # ended between the two looks
        if again == since:
            return Gap("rebuild", f"{_began(since)} and broke off", f"run `{REBUILD}`")
        since = again
    return Gap("rebuild", f"{_began(since)} and is under way", "wait until it ends")


def _began(since: datetime) -> str:
    return f"is partial: a rebuild began at {since:%Y-%m-%d %H:%M} UTC"


async def _mend(record: _Source) -> str:
    """What puts constraints back. A look for duplicates, which keep them away, would read all of the graph."""
    if (await lag(record)).is_relay_at_work():
        return f"a relay is at work and puts them back; {_DUPLICATES}"
    return f"start `nexus-graph relay`, which puts them back; {_DUPLICATES}"


class Watch:
    """Looks at the graph when asked, remembers what it found, and logs a change once."""

    def __init__(self, pool: Pool, driver: AsyncDriver) -> None:
        self._pool = pool
        self._driver = driver
        self._said: tuple[Lack, str] | None = None
        self._known = True

    async def look(self) -> None:
        """Look once, and put back missing constraints: without them the graph gets two nodes where one belongs.

        Raises nothing: the relay goes on, and the next look may do better.
        """
        try:
            self._note(await self._found())
        except Exception as error:  # noqa: BLE001 - as said
            if self._known:
                _LOG.warning("graph_extent_unknown", error=telemetry.error_name(error))
            self._known = False
        else:
            self._known = True

    def close(self) -> None:
        """This relay no longer looks: another one's gauges count."""
        self._show(None)

    async def _found(self) -> Gap | None:
        if missing := await missing_schema(self._driver):
            try:
                await ensure_constraints(self._driver)
            except Unavailable:
                return Gap("constraints", f"{_lacks(missing)} and holds duplicates", f"run `{REBUILD}`")
            _LOG.warning("constraints_restored", restored=missing)
        return await _missing_content(self._driver, self._pool)

    def _note(self, found: Gap | None) -> None:
        self._show(found)
        say = None if found is None else (found.lack, found.next_step)
        if say == self._said:
            return
        self._said = say
        if found is None:
            _LOG.info("graph_whole")
        else:
            _LOG.warning("graph_incomplete", lack=found.lack, reason=found.reason, next_step=found.next_step)

    @staticmethod
    def _show(found: Gap | None) -> None:
        for lack in get_args(Lack):
            telemetry.GRAPH_INCOMPLETE.labels(lack).set(found is not None and found.lack == lack)
