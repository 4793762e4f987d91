"""The benchmark's load on real servers: no answer is wrong, and pgbench asks the same mix."""

import asyncpg
import pytest

from nexus_graph.bench.arms import FamilyQuery, GraphQL, Rest
from nexus_graph.bench.load import Address, ClosedLoop, Load
from nexus_graph.bench.pgbench import Pgbench
from nexus_graph.bench.run import event_mark, expected_outcomes, load_families, load_pairings, outcome_shares, record_of
from nexus_graph.bench.workload import Workload, preloaded
from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from tests.running import ApiServer

_PEOPLE = 400
_CLIENTS = 8


@pytest.fixture
async def people(pool: Pool) -> None:
    """Who is known before."""
    await load_pairings(pool, preloaded(_PEOPLE))


async def _driven(arm: Rest | GraphQL | FamilyQuery, server: ApiServer) -> Load:
    loop: ClosedLoop[object] = ClosedLoop(arm, warmup_seconds=0.1, seconds=0.6)  # type: ignore[arg-type]
    load = await loop.run(Address(server.host, server.port), clients=_CLIENTS)
    assert load.wrong_shown == []
    assert load.wrong == 0
    assert len(load.latencies) > 0
    return load


@pytest.mark.usefixtures("people")
async def test_rest_and_graphql_give_no_wrong_answer(server: ApiServer, pool: Pool) -> None:
    workload = Workload(people=_PEOPLE, seed=1)
    mark = await event_mark(pool)
    loads = [await _driven(arm(workload, host="test"), server) for arm in (Rest, GraphQL)]
    shares = await outcome_shares(pool, since=mark, requests=sum(load.requests for load in loads))
    assert shares.keys() == expected_outcomes().keys()


async def test_families_are_read_from_the_graph(server: ApiServer, pool: Pool) -> None:
    families = await load_families(pool, count=20, seed=1)
    ...


@pytest.mark.usefixtures("people")
async def test_pgbench_asks_the_same_mix(settings: Settings, pool: Pool) -> None:
    record = await record_of(pool, settings.database_url.get_secret_value())
    pgbench = Pgbench(record, people=_PEOPLE, clients=_CLIENTS, runs=2)
    for run in range(2):
        mark = await event_mark(pool)
        load = await pgbench.measure(run, warmup_seconds=0.1, seconds=0.9)
        shares = await outcome_shares(pool, since=mark, requests=load.requests)
        assert shares == pytest.approx(expected_outcomes(), abs=0.06)
