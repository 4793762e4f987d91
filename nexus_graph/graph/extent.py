"""Whether the graph can show all of the record: constraints stand, no rebuild broke off, no families are missing."""

import re
from typing import Final, NamedTuple

import asyncpg
from neo4j import AsyncDriver

from nexus_graph.statements import cypher, sql
from nexus_graph.store.database import Connection, Pool
from nexus_graph.store.record import Record

COUNTED_MAX: Final = 10_000
"""Families of the record are counted no further: a wiped graph shows long before that, and counting costs."""

REBUILD: Final = "nexus-graph rebuild-graph"
_RELAY: Final = "start `nexus-graph relay`, which puts them back"

_parts = re.compile(r"FOR [^:]*:(\w+)[^.]*?(REQUIRE|ON) \(?\w+\.(\w+)").findall


class Gap(NamedTuple):
    """What the graph lacks, and what mends it."""

    reason: str
    next_step: str


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


async def gap(driver: AsyncDriver, record: "Connection | Pool | Record | None") -> Gap | None:
    """What the graph lacks; None if it lacks nothing that a cheap look finds.

    Without `record` families are not counted. Raises what the drivers raise.
    """
    if missing := await missing_schema(driver):
        return Gap(f"lacks its constraints or indexes on {', '.join(missing)}", _RELAY)
    expected = await _expected(record)
    ((families, rebuilding),) = (await driver.execute_query(cypher("graph_extent"))).records
    if rebuilding is not None:
        began = f"{rebuilding.to_native():%Y-%m-%d %H:%M} UTC"
        return Gap(f"is partial: a rebuild began at {began} and has not ended", f"if it broke off, run `{REBUILD}`")
    if families < expected:
        return Gap(f"lacks {expected - families:,} families of the record, or more", f"run `{REBUILD}`")
    return None


async def _expected(record: "Connection | Pool | Record | None") -> int:
    """Read before the graph is: a family that came between them is in the graph, and missing nowhere."""
    if record is None:
        return 0
    rows: list[asyncpg.Record] = await record.fetch(sql("families_expected"), COUNTED_MAX)
    ((families, pending),) = rows
    return int(families - pending)
