"""Neo4j is stopped, or overloaded, under family reads: how long readers wait, and when the graph is used again."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import monotonic

import asyncpg
import pytest

from nexus_graph.config import Settings
from nexus_graph.devstack.stack import Stack, StackOptions
from nexus_graph.identity.opening import Identity, open_identity
from nexus_graph.model import FamilyKey, IdentifyRequest, Source
from nexus_graph.store.migrate import migrate
from tests.stage.graphing import Gate, gate_before_graph, relaying

pytestmark = pytest.mark.drill

HANG_SECONDS = 25.0
OVERLOADED_SECONDS = 10.0
BACK_MAX_SECONDS = 2.0
USUAL_SECONDS = 5.0
READS_A_SECOND = 40
FAMILIES = 50


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    with TemporaryDirectory(prefix="nexus-drill-", ignore_cleanup_errors=True) as folder:
        options = StackOptions(
            data_dir=Path(folder),
            servers_only=True,
            quiet=True,
            browser_port=0,
            bolt_port=0,
            postgres_settings={"fsync": "off"},
        )
        async with Stack(options) as stack:
            yield stack


@pytest.fixture
async def own(stack: Stack) -> Settings:
    urls = stack.urls
    connection = await asyncpg.connect(urls.database_url)
    await migrate(connection)
    await connection.close()
    return Settings(
        database_url=urls.database_url,
        redis_url=urls.redis_url,
        neo4j_uri=urls.neo4j_uri,
        neo4j_user=urls.neo4j_user,
        neo4j_password=urls.neo4j_password,
    )


@contextmanager
def slow(gate: Gate) -> Iterator[None]:
    gate.delay_seconds = 0.2
    try:
        yield
    finally:
        gate.delay_seconds = 0.0


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_readers_do_not_wait_for_a_stopped_graph(stack: Stack, own: Settings) -> None:
    await readers_are_answered(own, "stopped", stopped(stack.process("neo4j").pid), HANG_SECONDS)


async def test_readers_do_not_wait_for_an_overloaded_graph(own: Settings) -> None:
    """It answers everything, each time later than readers wait."""
    async with gate_before_graph(own) as (gate, through):
        await readers_are_answered(through, "overloaded", slow(gate), OVERLOADED_SECONDS)


async def readers_are_answered(
    own: Settings, trouble_is: str, trouble: AbstractContextManager[None], seconds: float
) -> None:
    """Beside a graph in trouble by the record, in its usual time; and by the graph soon after."""
    async with relaying(own, patience_seconds=120) as relay, open_identity(own) as identity:
        for number in range(FAMILIES):
            await identity.identify(IdentifyRequest(f"e{number}@x.example", str(1_000_000 + number)))
        await relay.drained()
        while await source_of(identity, 0) is not Source.GRAPH:
            pass
        await read(identity, USUAL_SECONDS)
        with trouble:
            took = await read(identity, seconds)
        resumed = monotonic()
        async with asyncio.timeout(60):
            while await source_of(identity, 0) is not Source.GRAPH:
                pass
        back = monotonic() - resumed
    p99, of_record = quantiles(took[None], n=100)[98], quantiles(took[Source.RECORD], n=100)[98]
    slowest = max(took[Source.RECORD])
    waited = sum(seconds > slowest for seconds in took[None])
    print(
        f"graph {trouble_is} {seconds:g} s: reads p99 {p99 * 1000:.1f} ms, the record's own {of_record * 1000:.1f} ms "
        f"(ratio {p99 / of_record:.2f}); {waited} of {len(took[None])} reads slower than the record's slowest; "
        f"graph used again after {back:.2f} s"
    )
    # Those that were under way when it began, and those who came before the first of them was left behind.
    assert waited <= own.graph_patience_seconds * 2 * READS_A_SECOND
    assert back <= BACK_MAX_SECONDS


async def read(identity: Identity, seconds: float) -> dict[Source | None, list[float]]:
    """How long each read took: those that the graph may answer, and those that the record must, side by side."""
    took: dict[Source | None, list[float]] = {None: [], Source.RECORD: []}
    reads = []
    for number in range(int(seconds * READS_A_SECOND)):
        reads += [asyncio.create_task(timed(identity, number, source, took)) for source in took]
        await asyncio.sleep(1 / READS_A_SECOND)
    await asyncio.gather(*reads)
    return took


async def source_of(identity: Identity, number: int) -> Source:
    family = await identity.families.family(FamilyKey("email", f"e{number}@x.example"))
    assert family is not None
    return family.source


async def timed(identity: Identity, number: int, source: Source | None, took: dict[Source | None, list[float]]) -> None:
    began = monotonic()
    key = FamilyKey("email", f"e{number % FAMILIES}@x.example")
    assert await identity.families.family(key, source=source) is not None
    took[source].append(monotonic() - began)
