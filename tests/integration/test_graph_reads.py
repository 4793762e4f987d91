"""Families by traversal: the same as the record's, found through identifiers alone, and never in part."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from neo4j import AsyncDriver
from prometheus_client import REGISTRY

from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.gather.bounds import HALF_MIN_REQUESTS, bounds_within
from nexus_graph.graph.driver import open_driver, planned_once
from nexus_graph.graph.projection import project
from nexus_graph.graph.reads import GraphFamilies
from nexus_graph.graph.states import read_states
from nexus_graph.model import Family, FamilyKey, Source
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool
from tests.stage.graphing import PATIENCE_SECONDS, catch_up, gate_before_graph, identify, soft_delete

PEOPLE = [
    ("a@x.example", "+15550000001"),
    ("a@x.example", "+15550000002"),
    ("b@x.example", "+15550000002"),
    ("c@x.example", None),
    (None, "+15550000004"),
    ("c@x.example", "+15550000004"),
    ("alone@x.example", None),
]


@pytest.fixture
async def graph(driver: AsyncDriver, settings: Settings) -> AsyncIterator[GraphFamilies]:
    # A walk on a busy machine takes longer than batches usually wait for each other. Here they always wait.
    bounds = bounds_within(settings.graph_timeout_seconds)._replace(patience_seconds=PATIENCE_SECONDS)
    families = GraphFamilies(driver, settings, bounds)
    yield families
    await families.close()


async def _record(pool: Pool, contact_id: int) -> Family:
    (row,) = await pool.fetch(sql("family_of_contact"), [contact_id])
    return Family.of_columns(*row[1:])


async def _record_in_graph(pool: Pool, contact_id: int) -> Family:
    family: Family = msgspec.structs.replace(await _record(pool, contact_id), source=Source.GRAPH)
    return family


def _contact(contact_id: int) -> FamilyKey:
    return FamilyKey("contact", contact_id)


async def test_every_key_finds_the_family_that_the_record_has(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await identify(pool, *PEOPLE)
    await catch_up(pool, driver, settings)
    rows = await pool.fetch("SELECT id, email, phone_number FROM contacts")
    for row in rows:
        keys = [_contact(row["id"])]
        keys += [FamilyKey("email", row["email"])] if row["email"] else []
        keys += [FamilyKey("phone", row["phone_number"])] if row["phone_number"] else []
        expected = await _record(pool, row["id"])
        for key in keys:
            family = await graph.family(key)
            assert family is not None
            assert (family.version, family.contacts) == (expected.version, expected.contacts)
            assert family.source is Source.GRAPH


async def test_the_order_is_the_primarys_then_by_time_and_id(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await pool.execute(
        "INSERT INTO contacts (email, phone_number, linked_id, link_precedence, created_at) VALUES "
        "('a@x.example', 'p1', NULL, 'primary', '2020-01-01 00:00:00.000009+00'), "
        "('a@x.example', 'p2', 1, 'secondary', '2021-01-01 00:00:00.000002+00'), "
        "('a@x.example', 'p3', 1, 'secondary', '2021-01-01 00:00:00.000001+00'), "
        "('a@x.example', 'p4', 1, 'secondary', '1969-12-31 23:59:59.999999+00'), "
        "('a@x.example', 'p5', 1, 'secondary', '2021-01-01 00:00:00.000002+00')"
    )
    await project(driver, await read_states(pool, [1]), settings)
    family = await graph.family(_contact(5))
    assert family is not None
    assert [contact.id for contact in family.contacts] == [1, 4, 3, 2, 5]
    assert family.contacts == (await _record(pool, 1)).contacts
    assert family.contacts[1].created_at.isoformat() == "1969-12-31T23:59:59.999999+00:00"


async def test_evidence_alone_holds_a_family_together(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await identify(pool, *PEOPLE[3:6])
    await catch_up(pool, driver, settings)
    family = await graph.family(FamilyKey("email", "c@x.example"))
    assert family is not None
    assert [contact.id for contact in family.contacts] == [1, 2]


async def test_what_only_a_deleted_contact_carried_leads_nowhere_as_in_the_record(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await identify(pool, *PEOPLE[:3])
    await soft_delete(pool, 3)
    await catch_up(pool, driver, settings)
    assert await graph.family(FamilyKey("email", "b@x.example")) is None
    assert await graph.family(_contact(3)) is None
    found = await driver.execute_query("MATCH (:Email {value: 'b@x.example'})-[r]-() RETURN type(r) AS type")
    assert [record["type"] for record in found.records] == ["SEEN_WITH"]
    family = await graph.family(FamilyKey("phone", "+15550000002"))
    assert family is not None
    assert [contact.id for contact in family.contacts] == [1, 2]


async def test_links_and_places_are_not_walked(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await identify(pool, ("a@x.example", None), ("b@x.example", None))
    await catch_up(pool, driver, settings)
    await driver.execute_query("MATCH (a:Contact {id: 1}), (b:Contact {id: 2}) CREATE (b)-[:LINKED_TO]->(a)")
    family = await graph.family(_contact(1))
    assert family is not None
    assert [contact.id for contact in family.contacts] == [1]


TORN = {
    "a member is missing": "MATCH (c:Contact {id: 2}) DETACH DELETE c",
    "a member is too many": "MATCH (e:Email {value: 'a@x.example'}) CREATE (:Contact {id: 9})-[:HAS_EMAIL]->(e)",
    "a member is in no family": "MATCH (:Contact {id: 2})-[r]->(:Family) DELETE r",
    "a member is in two families": "MATCH (c:Contact {id: 2}), (f:Family {id: 4}) CREATE (c)-[:IN_FAMILY]->(f)",
    "the size is another": "MATCH (f:Family {id: 1}) SET f.size = 4",
    "the primary is another": "MATCH (f:Family {id: 1}) SET f.id = 77",
    "the version is none": "MATCH (f:Family {id: 1}) REMOVE f.version",
    "two families met": "MATCH (c:Contact {id: 4}), (e:Email {value: 'a@x.example'}) CREATE (c)-[:HAS_EMAIL]->(e)",
}


@pytest.mark.parametrize("tear", TORN)
async def test_a_family_that_does_not_add_up_is_not_given(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies, tear: str
) -> None:
    await identify(pool, *PEOPLE)
    await catch_up(pool, driver, settings)
    assert await graph.family(_contact(1)) is not None
    torn = REGISTRY.get_sample_value("nexus_graph_reads_in_doubt_total", {"cause": "torn"}) or 0
    await driver.execute_query(TORN[tear])
    assert await graph.family(_contact(1)) is None
    assert REGISTRY.get_sample_value("nexus_graph_reads_in_doubt_total", {"cause": "torn"}) == torn + 1


async def test_keys_that_nothing_has_are_none_and_harm_nobody(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await identify(pool, *PEOPLE)
    await catch_up(pool, driver, settings)
    keys = [
        _contact(10**30),
        _contact(-(10**30)),
        _contact(999),
        FamilyKey("email", "\ud800@x.example"),
        FamilyKey("email", "nobody@x.example"),
        FamilyKey("phone", "a@x.example"),
        FamilyKey("phone", ""),
        FamilyKey("email", "' OR 1=1 //"),
    ]
    answers = await asyncio.gather(*(graph.family(key) for key in [*keys, _contact(1)]))
    assert answers[:-1] == [None] * len(keys)
    assert answers[-1] is not None


async def test_keys_of_one_family_share_a_walk(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await identify(pool, *PEOPLE)
    await catch_up(pool, driver, settings)
    one = [_contact(1), _contact(2), _contact(3), FamilyKey("email", "b@x.example"), FamilyKey("phone", "+15550000001")]
    other = [_contact(4), FamilyKey("phone", "+15550000004")]
    families = await asyncio.gather(*(graph.family(key) for key in (*one, *other)))
    assert families[0] == await _record_in_graph(pool, 1)
    assert families[-1] == await _record_in_graph(pool, 4)
    assert {id(family) for family in families[: len(one)]} == {id(families[0])}
    assert {id(family) for family in families[len(one) :]} == {id(families[-1])}


async def test_a_key_that_the_shared_walk_did_not_meet_is_not_answered(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    """Said to be of the family, and tied to nobody of it: what is said only spares walks."""
    await identify(pool, *PEOPLE)
    await catch_up(pool, driver, settings)
    await driver.execute_query("MATCH (f:Family {id: 1}) CREATE (:Contact {id: 99})-[:IN_FAMILY]->(f)")
    for keys in ([1, 2, 99], [99, 2, 1]):
        found = await asyncio.gather(*(graph.family(_contact(key)) for key in keys))
        assert found[keys.index(99)] is None
        assert found[0] is None or found[0] == await _record_in_graph(pool, 1)


async def test_a_node_that_lacks_what_every_contact_has_is_in_no_family(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await identify(pool, ("a@x.example", "+15550000001"), ("a@x.example", "+15550000002"))
    await catch_up(pool, driver, settings)
    await driver.execute_query("MATCH (c:Contact {id: 2}) REMOVE c.createdAt")
    assert await graph.family(_contact(1)) is None


async def test_concurrent_readers_share_a_statement_and_equal_keys_a_walk(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await identify(pool, *PEOPLE)
    await catch_up(pool, driver, settings)
    labels = {"queue": "graph"}
    batches = REGISTRY.get_sample_value("nexus_batch_size_count", labels) or 0
    requests = REGISTRY.get_sample_value("nexus_batch_size_sum", labels) or 0
    readers = HALF_MIN_REQUESTS
    families = await asyncio.gather(*(graph.family(_contact(1 + n % 2)) for n in range(readers)))
    assert families[0] is not None
    assert len({id(family) for family in families}) == 1
    assert REGISTRY.get_sample_value("nexus_batch_size_sum", labels) == requests + readers
    assert REGISTRY.get_sample_value("nexus_batch_size_count", labels) == batches + 1


async def test_who_asks_during_the_walk_of_a_shared_family_is_told_what_it_finds(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    await identify(pool, *PEOPLE)
    await catch_up(pool, driver, settings)
    first = [asyncio.create_task(graph.family(_contact(1))) for _ in range(2)]
    await asyncio.sleep(0)  # they have asked
    await asyncio.sleep(0)  # and their walk is under way
    keys = [
        _contact(2),
        FamilyKey("email", "b@x.example"),
        FamilyKey("phone", "+15550000001"),
        _contact(4),
        _contact(3),
    ]
    *later, other, newest = [asyncio.create_task(graph.family(key)) for key in keys]
    families = await asyncio.gather(*first, *later)
    assert families[0] == await _record_in_graph(pool, 1)
    assert {id(family) for family in families} == {id(families[0])}
    assert await other == await _record_in_graph(pool, 4), "of another family, and walked"
    again = await newest
    assert again == families[0]
    assert again is not families[0], "the newest is walked for, so that a walk is under way while the others are told"


async def test_neo4j_away_is_unavailable_and_back_is_back(pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
    await identify(pool, *PEOPLE)
    await catch_up(pool, driver, settings)
    async with gate_before_graph(settings) as (gate, through), open_driver(through) as gated:
        families = GraphFamilies(gated, through)
        assert await families.family(_contact(1)) is not None
        gate.shut()
        with pytest.raises(Unavailable):
            await families.family(_contact(1))
        with pytest.raises(Unavailable):
            await families.family(_contact(1), insist=True)
        gate.open()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await families.joined.wait()
        assert await families.family(_contact(1)) is not None
        await families.close()


async def test_a_read_is_bounded_in_time(settings: Settings) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_024):
            pass
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    hasty = settings.model_copy(update={"neo4j_uri": f"bolt://127.0.0.1:{port}", "graph_timeout_seconds": 0.2})
    async with silent, open_driver(hasty) as driver:
        families = GraphFamilies(driver, hasty)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await families.family(_contact(1))
            await families.close()


async def test_a_family_of_a_thousand_that_all_share_is_walked_in_linear_time(
    pool: Pool, driver: AsyncDriver, settings: Settings, graph: GraphFamilies
) -> None:
    """A plan that kept paths, or sought one to each contact, would not end within the bound on a read."""
    await pool.execute(
        "INSERT INTO contacts (email, phone_number, linked_id, link_precedence, created_at) "
        "SELECT 'e' || n % 32, 'p' || n / 32, CASE WHEN n > 0 THEN 1 END, "
        "CASE WHEN n > 0 THEN 'secondary' ELSE 'primary' END, now() + n * interval '1 ms' "
        "FROM generate_series(0, 999) AS n"
    )
    await project(driver, await read_states(pool, [1]), settings)
    family = await graph.family(_contact(777))
    assert family is not None
    assert family.contacts == (await _record(pool, 1)).contacts


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
@pytest.mark.parametrize("name", ["families", "verify_families"])
async def test_the_walk_is_planned_as_one_that_visits_each_node_once(
    pool: Pool, driver: AsyncDriver, settings: Settings, *, name: str, filled: bool
) -> None:
    if filled:
        await identify(pool, *PEOPLE)
        await catch_up(pool, driver, settings)
    # What is planned while the graph is empty is used when it has filled.
    await driver.execute_query("CALL db.clearQueryCaches()")
    parameters = (
        {"families": [[1, True]]} if name == "verify_families" else {"contacts": [1], "emails": [], "phones": []}
    )
    text, given = planned_once(name, parameters)
    summary = (await driver.execute_query(f"EXPLAIN {text}", given)).summary
    assert summary.plan is not None
    operators = [plan["operatorType"].split("@")[0] for plan in _plans(summary.plan)]
    assert [kind for kind in operators if kind.startswith("VarLength")] == ["VarLengthExpand(Pruning,BFS,All)"]
    assert not [kind for kind in operators if "Scan" in kind or "Cartesian" in kind]


def _plans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(below for child in plan.get("children", []) for below in _plans(child))]


async def test_a_server_that_stops_while_it_connects_leaves_no_socket_open(settings: Settings) -> None:
    gc.collect()  # what others left is not told here
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for turns in range(30):
            async with open_driver(settings) as driver:
                warming = asyncio.create_task(GraphFamilies(driver, settings).warm())
                for _ in range(turns):
                    await asyncio.sleep(0)
                warming.cancel()
                await asyncio.wait({warming})
        gc.collect()
    assert [str(warning.message) for warning in warned] == []
