"""The benchmark's load on real servers: no answer is wrong, and pgbench asks the same mix."""

import asyncio
import json
from array import array
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from neo4j import AsyncDriver

from bench import express, record
from bench.gauges import LagWatch
from bench.load.arms import (
    PAGE_OF_FAMILY,
    WHOLE_FAMILY,
    Arm,
    FamilyQuery,
    GraphQL,
    Known,
    OneFamily,
    Original,
    Repeats,
    Rest,
    Typename,
    identify_body,
)
from bench.load.client import Address, HttpClient
from bench.load.driver import Graph, Straight
from bench.load.loops import ClosedLoop, Load
from bench.load.pgbench import Pgbench
from bench.load.workload import Pairing, Workload, grown_families, new_pairings, preloaded
from bench.servers import serving
from nexus_graph.config import Settings
from nexus_graph.devstack.stack import StackUrls
from nexus_graph.store.database import Pool
from tests.stage.running import ApiServer

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
    assert await LagWatch(pool, driver).drained(timeout_seconds=60)
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
    assert await LagWatch(pool, driver).drained(timeout_seconds=60)
    graph = Graph(
        uri=settings.neo4j_uri,
        user=settings.neo4j_user,
        password=settings.neo4j_password.get_secret_value(),
        contacts=array("q", (contact for family in families for contact in family)),
        family_contacts=10,
        tasks=_CLIENTS,
        seed=1,
    )
    load = await Straight(graph, warmup_seconds=0.1, seconds=0.6).run()
    assert load.wrong_shown == []
    assert load.requests >= _CLIENTS


async def test_questions_about_a_dense_family_are_answered_from_the_graph(
    server: ApiServer, pool: Pool, driver: AsyncDriver
) -> None:
    pairings = list(grown_families(1, contacts=150, seed=1))
    pairings += new_pairings(pairings, count=100, seed=1)
    contacts = list((await record.load(pool, iter(pairings)))[-1]["contact_ids"])
    assert len(contacts) == 150
    assert await LagWatch(pool, driver).drained(timeout_seconds=60)
    emails = len({pairing.email for pairing in pairings})
    arms: list[Arm[Any]] = [
        OneFamily(WHOLE_FAMILY, contacts, host="test", counted=b"@bench.example", count=emails),
        OneFamily(PAGE_OF_FAMILY, contacts, host="test", counted=b'"createdAt"', count=100),
        Repeats(pairings, host="test"),
    ]
    for arm in arms:
        load = await _driven(arm, server)
        assert load.wrong_shown == []
        assert load.requests >= _CLIENTS


async def test_two_families_are_united_by_the_body_of_a_union(server: ApiServer, pool: Pool) -> None:
    one, other = preloaded(2)
    await record.load(pool, iter((one, other)))
    async with HttpClient(server.host, server.port) as client:
        answer = await client.post("/graphql", identify_body(Pairing(one.email, other.phone)))
    assert json.loads(answer.body)["data"]["identify"]["outcome"] == "MERGED"


@pytest.fixture(scope="session")
async def original_urls(servers: StackUrls) -> Mapping[str, str]:
    """Databases of the original design, with people."""
    return {
        arm: await express.prepare_database(arm, servers.database_url, preloaded(_PEOPLE)) for arm in express.ISOLATIONS
    }


async def test_the_original_design_answers_the_mix(original_urls: Mapping[str, str], tmp_path: Path) -> None:
    url = original_urls["express"]
    argv = await express.installed_in_thread()
    async with serving(tmp_path, "express", lambda _: argv, env=express.environment("express", url)) as original:
        arm = Original(Workload(people=_PEOPLE, seed=1), host="test")
        load = await _driven(arm, ApiServer(original.address.host, original.address.port))
    assert load.wrong_shown == []
    assert load.requests >= _CLIENTS
    assert await express.faults(url) == 0


async def test_what_concurrency_broke_is_counted(original_urls: Mapping[str, str]) -> None:
    connection = await asyncpg.connect(original_urls["express_plain"])
    try:
        await connection.execute("UPDATE contacts SET linked_id = 2, link_precedence = 'secondary' WHERE id = 1")
        await connection.execute("UPDATE contacts SET linked_id = 1, link_precedence = 'secondary' WHERE id = 3")
        await connection.execute("UPDATE contacts SET phone_number = '7' WHERE id IN (4, 5)")
    finally:
        await connection.close()
    assert await express.faults(original_urls["express_plain"]) == 2


async def test_where_there_is_no_node_the_original_design_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(express.CannotRun, match="there is no node"):
        await express.installed_in_thread()


async def test_pgbench_asks_the_same_mix_in_every_run(settings: Settings, pool: Pool) -> None:
    await record.load(pool, preloaded(_PEOPLE))
    reached = await record.connected(pool, settings.database_url.get_secret_value())
    pgbench = Pgbench(reached, people=_PEOPLE, clients=_CLIENTS, runs=2)
    for run in range(2):
        mark = await record.event_mark(pool)
        load = await pgbench.measure(run, warmup_seconds=0.1, seconds=0.9)
        assert await record.outcome_shares(pool, since=mark, requests=load.requests) == _as_the_mix(load.requests)
