"""A graph that hangs, refuses or comes back: at most the reads under way wait for it, and then the record answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from neo4j import AsyncDriver
from pydantic import SecretStr

from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.graph.driver import open_driver
from nexus_graph.graph.projection import project
from nexus_graph.graph.reads import GraphFamilies
from nexus_graph.graph.states import read_states
from nexus_graph.identity.opening import open_identity
from nexus_graph.model import FamilyKey, Source
from nexus_graph.store.database import Pool
from tests.stage.graphing import PATIENCE_SECONDS, Gate, gate_before_graph, identify

KEY = FamilyKey("email", "a@x.example")


@pytest.fixture
async def projected(pool: Pool, driver: AsyncDriver, settings: Settings) -> Settings:
    """Settings of an operator, with one family in both stores."""
    await identify(pool, ("a@x.example", "+15550000001"))
    await pool.execute("DELETE FROM outbox")
    await project(driver, await read_states(pool, [1]), settings)
    return settings.model_copy(update={"graph_patience_seconds": 0.4})


@asynccontextmanager
async def gated(settings: Settings) -> AsyncIterator[tuple[Gate, GraphFamilies]]:
    async with gate_before_graph(settings) as (gate, through), open_driver(through, connect_seconds=0.5) as driver:
        families = GraphFamilies(driver, through)
        await families.warm()
        yield gate, families
        await families.close()


async def joined(families: GraphFamilies) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await families.joined.wait()


def answered_without_waiting(families: GraphFamilies) -> None:
    """Raises StopIteration, or whatever the read raises; a read that waits would not."""
    families.family(KEY).send(None)


async def test_a_hung_graph_keeps_no_reader_but_the_first_waiting_and_is_used_once_it_answers(
    projected: Settings,
) -> None:
    async with gated(projected) as (gate, families):
        assert await families.family(KEY) is not None
        for _ in range(2):
            gate.stall()
            with pytest.raises(Unavailable):
                await families.family(KEY)
            for _ in range(10):
                with pytest.raises(Unavailable):
                    answered_without_waiting(families)
            gate.flow()
            await joined(families)
            assert await families.family(KEY) is not None


async def test_a_hung_graph_is_looked_for_by_one_task(projected: Settings) -> None:
    async with gated(projected) as (gate, families):
        gate.stall()
        with pytest.raises(Unavailable):
            await families.family(KEY)
        before = len(asyncio.all_tasks())
        for _ in range(100):
            with pytest.raises(Unavailable):
                await families.family(KEY)
        assert len(asyncio.all_tasks()) <= before


@asynccontextmanager
async def busy_connections(driver: AsyncDriver, count: int) -> AsyncIterator[None]:
    """As many of the driver's connections as other work would hold."""
    async with AsyncExitStack() as held:
        for _ in range(count):
            session = await held.enter_async_context(driver.session())
            await held.enter_async_context(await session.begin_transaction())
        yield


async def test_a_driver_without_a_free_connection_keeps_no_reader_waiting(projected: Settings) -> None:
    """The graph answers, but other work holds every connection: one reader waits for a moment, and then one task."""
    few = projected.model_copy(update={"graph_connections": 3})
    async with open_driver(few) as driver:
        families = GraphFamilies(driver, few)
        await families.warm()
        for _ in range(2):
            assert await families.family(KEY) is not None
            async with busy_connections(driver, few.graph_connections):
                with pytest.raises(Unavailable):
                    await families.family(KEY)
                waiting = len(asyncio.all_tasks())
                for _ in range(100):
                    with pytest.raises(Unavailable):
                        answered_without_waiting(families)
                assert len(asyncio.all_tasks()) <= waiting
                assert not families.joined.is_set()
            await joined(families)
        await families.close()


@pytest.fixture
def slow_probes(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Released each time that a probe found the graph too slow for readers."""
    found, answers_in_time = asyncio.Semaphore(0), GraphFamilies._answers_in_time

    async def watched(families: GraphFamilies) -> None:
        try:
            await answers_in_time(families)
        except TimeoutError:
            found.release()
            raise

    monkeypatch.setattr(GraphFamilies, "_answers_in_time", watched)
    return found


async def test_an_overloaded_graph_is_left_alone_until_it_is_quick_again(
    projected: Settings, slow_probes: asyncio.Semaphore
) -> None:
    """It answers, later than readers wait: the record answers them, and no probe lets them in to wait again."""
    hasty = projected.model_copy(update={"graph_patience_seconds": 0.1})
    async with gated(hasty) as (gate, families), asyncio.timeout(PATIENCE_SECONDS):
        assert await families.family(KEY) is not None
        gate.delay_seconds = hasty.graph_patience_seconds
        with pytest.raises(Unavailable):
            await families.family(KEY)
        for _ in range(2):
            await slow_probes.acquire()
            with pytest.raises(Unavailable):
                answered_without_waiting(families)
        assert not families.joined.is_set()
        gate.delay_seconds = 0.0
        await joined(families)
        assert await families.family(KEY) is not None


async def test_who_insists_on_a_hung_graph_is_refused(projected: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_graph.graph.reads.WAIT_MAX_SECONDS", 0.0)
    hasty = projected.model_copy(update={"graph_timeout_seconds": 0.5})
    async with gated(hasty) as (gate, families):
        gate.stall()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await families.family(KEY, insist=True)
        assert not families.joined.is_set()
        gate.flow()
        await joined(families)
        assert await families.family(KEY, insist=True) is not None


async def test_who_insists_is_answered_by_a_graph_that_comes_back_meanwhile(
    projected: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.graph.reads.WAIT_MAX_SECONDS", float(PATIENCE_SECONDS))
    async with gated(projected) as (gate, families):
        gate.shut()
        with pytest.raises(Unavailable):
            await families.family(KEY)
        insisting = asyncio.create_task(families.family(KEY, insist=True))
        await asyncio.sleep(0)
        gate.open()
        assert await insisting is not None


async def test_a_graph_that_is_away_at_the_start_is_used_once_it_is_there(projected: Settings) -> None:
    async with gate_before_graph(projected) as (gate, through), open_driver(through) as driver:
        gate.shut()
        families = GraphFamilies(driver, through)
        await families.warm()
        with pytest.raises(Unavailable):
            answered_without_waiting(families)
        gate.open()
        await joined(families)
        assert await families.family(KEY) is not None
        await families.close()


async def test_a_graph_that_refuses_the_login_is_not_asked_again_at_once(projected: Settings) -> None:
    refused = projected.model_copy(update={"neo4j_password": SecretStr("not it")})
    async with open_driver(refused) as driver:
        families = GraphFamilies(driver, refused)
        await families.warm()
        with pytest.raises(Unavailable):
            answered_without_waiting(families)
        await families.close()


async def test_the_record_answers_while_the_graph_hangs(projected: Settings) -> None:
    async with gate_before_graph(projected) as (gate, through), open_identity(through) as identity:
        by_graph = await identity.families.family(KEY, source=Source.GRAPH)
        assert by_graph is not None
        gate.stall()
        for _ in range(20):
            family = await identity.families.family(KEY)
            assert family is not None
            assert family.source is Source.RECORD
        with pytest.raises(Unavailable):
            await identity.families.family(KEY, source=Source.GRAPH)
        gate.flow()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await identity.families.family(KEY) != by_graph:
                pass
