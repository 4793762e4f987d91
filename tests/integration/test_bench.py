"""The benchmark's load on real servers: no answer is wrong, and pgbench asks the same mix."""

import asyncio
from array import array
from math import sqrt
from typing import Any

import pytest
from neo4j import AsyncDriver

from nexus_graph.bench import record
from nexus_graph.bench.arms import Arm, FamilyQuery, GraphQL, Known, Rest, Typename
from nexus_graph.bench.client import HttpClient
from nexus_graph.bench.lag import LagWatch
from nexus_graph.bench.load import Address, ClosedLoop, Load
from nexus_graph.bench.pgbench import Pgbench
from nexus_graph.bench.straight import Graph, Straight
from nexus_graph.bench.workload import Workload, preloaded
from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from tests.running import ApiServer

_PEOPLE = 400
_CLIENTS = 8


async def _driven(arm: Arm[Any], server: ApiServer, *, clients: int = _CLIENTS) -> Load:
    run = ClosedLoop(arm, warmup_seconds=0.1, seconds=0.6)
    return await run.run(Address(server.host, server.port), clients=clients)


def _as_the_mix(requests: int) -> object:
    """Equal, but for five standard deviations of chance."""
    return pytest.approx(record.expected_shares(), abs=2.5 / sqrt(requests))


async def test_rest_and_graphql_give_no_wrong_answer(server: ApiServer, pool: Pool) -> None:
    await record.load(pool, preloaded(_PEOPLE))
    workload = Workload(people=_PEOPLE, seed=1)
    mark = await record.event_mark(pool)
    requests = 0
    for arm in (Rest, GraphQL):
        load = await _driven(arm(workload, host="test"), server)
        assert load.wrong_shown == []
        requests += load.requests
    assert await record.outcome_shares(pool, since=mark, requests=requests) == _as_the_mix(requests)


async def test_families_are_read_from_the_graph(server: ApiServer, pool: Pool, driver: AsyncDriver) -> None:
    families = await record.load_families(pool, count=20, contacts=10, seed=1)
    assert await LagWatch(pool, driver).drained(timeout_seconds=10)
    arm = FamilyQuery(families, host="test", seed=1)
    async with asyncio.timeout(30):  # a cold graph may take longer over its first plan than readers wait for it
        while (await _driven(arm, server, clients=1)).wrong:
            pass
    load = await _driven(arm, server)
    assert load.wrong_shown == []
    assert load.requests >= _CLIENTS


async def test_who_is_known_is_asked_again_and_changes_nothing(server: ApiServer, pool: Pool) -> None:
    await record.load(pool, preloaded(_PEOPLE))
    mark = await record.event_mark(pool)
    load = await _driven(Known(Workload(people=_PEOPLE, seed=1), host="test"), server)
    assert load.wrong_shown == []
    assert await record.event_mark(pool) == mark


async def test_typename_can_be_as_long_as_another_answer(server: ApiServer) -> None:
    for wanted in (None, 900):
        arm = Typename(host="test", answer_bytes=wanted)
        load = await _driven(arm, server)
        assert load.wrong_shown == []
        if wanted is not None:
            async with HttpClient(server.host, server.port) as client:
                answer = await client.post("/graphql", arm.next()[0].partition(b"\r\n\r\n")[2])
            assert len(answer.body) == wanted


async def test_the_graph_is_asked_straight(
    server: ApiServer, settings: Settings, pool: Pool, driver: AsyncDriver
) -> None:
    families = await record.load_families(pool, count=20, contacts=10, seed=1)
    assert await LagWatch(pool, driver).drained(timeout_seconds=10)
    graph = Graph(
        uri=settings.neo4j_uri,
        user=settings.neo4j_user,
        password=settings.neo4j_password.get_secret_value(),
        contacts=array("q", (family[0] for family in families)),
        family_contacts=10,
        tasks=_CLIENTS,
        seed=1,
    )
    load = await Straight(graph, warmup_seconds=0.1, seconds=0.6).run()
    assert load.wrong_shown == []
    assert load.requests >= _CLIENTS


async def test_pgbench_asks_the_same_mix_in_every_run(settings: Settings, pool: Pool) -> None:
    await record.load(pool, preloaded(_PEOPLE))
    reached = await record.connected(pool, settings.database_url.get_secret_value())
    pgbench = Pgbench(reached, people=_PEOPLE, clients=_CLIENTS, runs=2)
    for run in range(2):
        mark = await record.event_mark(pool)
        load = await pgbench.measure(run, warmup_seconds=0.1, seconds=0.9)
        assert await record.outcome_shares(pool, since=mark, requests=load.requests) == _as_the_mix(load.requests)
