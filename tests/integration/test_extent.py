"""A graph that lacks constraints or families, or whose rebuild broke off, is noticed, and what mends it is said."""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from neo4j import AsyncDriver
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from nexus_graph.commands.doctor import Level, examine
from nexus_graph.config import Settings
from nexus_graph.graph.driver import ensure_constraints
from nexus_graph.graph.extent import Watch, gap, missing_schema
from nexus_graph.graph.projection import project
from nexus_graph.graph.rebuild import rebuild
from nexus_graph.graph.states import read_states
from nexus_graph.identity.opening import open_identity
from nexus_graph.model import FamilyKey, Source
from nexus_graph.store.database import Pool
from tests.stage import loading
from tests.stage.graphing import PATIENCE_SECONDS, identify, relaying, soft_delete
from tests.stage.health import check_of
from tests.stage.running import running_api

FAMILIES = 9
WIPE_BUT_ONE = "MATCH (node) WHERE node.id IS NULL OR node.id <> 1 DETACH DELETE node"
FAMILY = """query ($email: EmailAddress!) { contactFamily(by: {email: $email}) { source emails phoneNumbers } }"""


@pytest.fixture
async def projected(pool: Pool, settings: Settings) -> Pool:
    """Families that the graph shows."""
    await identify(pool, *((f"p{number}@x.example", f"+1415555{number:04d}") for number in range(FAMILIES)))
    async with relaying(settings) as relay:
        await relay.drained()
    return pool


async def doctor_says(settings: Settings, tmp_path: Path) -> dict[str, tuple[Level, str]]:
    """What doctor finds of graph and relay, by the addresses of the environment."""
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "NEO4J_URI": settings.neo4j_uri,
        "NEO4J_USER": settings.neo4j_user,
        "NEO4J_PASSWORD": settings.neo4j_password.get_secret_value(),
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        found = [finding async for finding in examine(tmp_path, os.environ)]
    return {finding.subject: (finding.level, f"{finding.text}; {finding.next_step}") for finding in found}


async def health(settings: Settings) -> tuple[int, str, dict[str, str]]:
    """Status code and status of /health, and its check of Neo4j."""
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url, timeout=30) as api:
        answer = await api.get("/health")
        return answer.status_code, answer.json()["status"], check_of(answer, "neo4j")


async def test_a_whole_graph_lacks_nothing(
    projected: Pool, driver: AsyncDriver, settings: Settings, tmp_path: Path
) -> None:
    assert await gap(driver, projected) is None
    assert await health(settings) == (200, "ok", {"status": "ok"})
    said = await doctor_says(settings, tmp_path)
    assert (said["graph"][0], said["relay"][0]) == (Level.OK, Level.OK)


async def test_families_that_the_relay_has_still_to_bring_are_not_missing(pool: Pool, driver: AsyncDriver) -> None:
    await identify(pool, ("a@x.example", "+14155550001"), ("b@x.example", "+14155550002"))
    assert await gap(driver, pool) is None


async def test_a_wiped_graph_is_noticed(
    projected: Pool, driver: AsyncDriver, settings: Settings, tmp_path: Path
) -> None:
    await driver.execute_query(WIPE_BUT_ONE)
    lacks = f"lacks {FAMILIES - 1} families of the record, or more"
    found = await gap(driver, projected)
    assert found is not None
    assert found.reason == lacks
    code, status, neo4j = await health(settings)
    assert (code, status, neo4j["status"]) == (200, "degraded", "degraded")
    assert neo4j["reason"] == f"{lacks}: run `nexus-graph rebuild-graph`"
    level, text = (await doctor_says(settings, tmp_path))["graph"]
    assert level is Level.FAIL
    assert lacks in text
    assert "nexus-graph rebuild-graph" in text


@pytest.mark.parametrize("dropped", ["CONSTRAINT contact_id", "CONSTRAINT phone_value", "INDEX seen_with_family"])
async def test_what_somebody_dropped_is_noticed_and_the_relay_puts_it_back(
    projected: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch, dropped: str
) -> None:
    assert await missing_schema(driver) == []
    await driver.execute_query(f"DROP {dropped}")
    try:
        found = await gap(driver, projected)
        assert found is not None
        assert "start `nexus-graph relay`" in found.next_step
        await ensure_constraints(driver)
        assert await missing_schema(driver) == []
        monkeypatch.setattr("nexus_graph.relay._EXTENT_SECONDS", 0.02)
        async with relaying(settings, patience_seconds=PATIENCE_SECONDS) as relay:
            await relay.active.wait()
            await driver.execute_query(f"DROP {dropped}")
            while await missing_schema(driver):  # noqa: ASYNC110 - the relay works in its own time
                await asyncio.sleep(0.02)
    finally:
        await ensure_constraints(driver)  # the tests after this one have the same graph


async def test_a_rebuild_that_broke_off_is_known_until_another_ends(
    projected: Pool, driver: AsyncDriver, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(_contacts: int) -> None:
        raise KeyError("the first batch is written")

    monkeypatch.setattr("nexus_graph.graph.rebuild.BATCH_FAMILIES", 1)
    with pytest.raises(KeyError):
        await rebuild(projected, driver, settings, progress=break_off)
    found = await gap(driver, projected)
    assert found is not None
    assert found.reason.startswith("is partial: a rebuild began at ")
    assert found.reason.endswith(" and broke off")
    _, status, neo4j = await health(settings)
    assert (status, neo4j["status"]) == ("degraded", "degraded")
    level, text = (await doctor_says(settings, tmp_path))["graph"]
    assert level is Level.FAIL
    assert "nexus-graph rebuild-graph" in text
    await rebuild(projected, driver, settings)
    assert await gap(driver, projected) is None


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
async def test_the_command_is_interrupted_and_run_again(
    projected: Pool, driver: AsyncDriver, settings: Settings, signal_number: signal.Signals
) -> None:
    async with driver.session() as session:
        # While this family is held, the wipe cannot come to its end.
        holding = await session.begin_transaction()
        await (await holding.run("MATCH (family:Family {id: 1}) SET family.held = true")).consume()
        rebuilding = await loading.start(settings, "rebuild-graph")
        while (found := await gap(driver, projected)) is None:  # noqa: ASYNC110 - another process works in its own time
            await asyncio.sleep(0.02)
        rebuilding.send_signal(signal_number)
        _, errors = await rebuilding.communicate()
        await holding.rollback()
    assert found.reason.startswith("is partial")
    assert (found.reason[-17:], found.next_step) == (" and is under way", "wait until it ends")
    assert rebuilding.returncode != 0
    assert b"Traceback" not in errors
    if signal_number == signal.SIGINT:
        assert b"the graph may be partial now" in errors
        assert b"nexus-graph rebuild-graph" in errors
    code, _, errors_again = await loading.command(settings, "rebuild-graph")
    assert (code, errors_again) == (0, "")
    assert await gap(driver, projected) is None


async def test_a_relay_that_is_far_behind_is_not_taken_for_a_graph_that_lost_families(
    projected: Pool, driver: AsyncDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes of one family fill all that is counted of the outbox, and others wait behind them."""
    monkeypatch.setattr("nexus_graph.graph.extent.COUNTED_MAX", FAMILIES + 5)
    await identify(projected, *((f"again{number}@x.example", "+14155550000") for number in range(FAMILIES + 5)))
    await identify(projected, *((f"new{number}@x.example", None) for number in range(5)))
    assert await gap(driver, projected) is None
    await projected.execute("DELETE FROM outbox")
    found = await gap(driver, projected)
    assert found is not None
    assert found.reason == "lacks 5 families of the record, or more"


class _Meanwhile:
    """The record, where a family goes from both stores once it was counted."""

    def __init__(self, pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
        self._pool, self._driver, self._settings = pool, driver, settings

    async def fetch(self, query: str, *given: Any) -> Any:
        rows = await self._pool.fetch(query, *given)
        await soft_delete(self._pool, 1)
        await project(self._driver, await read_states(self._pool, [1]), self._settings)
        await self._pool.execute("DELETE FROM outbox")
        return rows


async def test_a_tombstone_hides_no_missing_family(projected: Pool, driver: AsyncDriver, settings: Settings) -> None:
    for contact_id in (1, 2, 3):
        await soft_delete(projected, contact_id)
    async with relaying(settings) as relay:
        await relay.drained()
    assert await gap(driver, projected) is None
    await driver.execute_query("MATCH (node:Family|Contact) WHERE node.id IN [4, 5] DETACH DELETE node")
    found = await gap(driver, projected)
    assert found is not None
    assert found.reason == "lacks 2 families of the record, or more"


async def test_a_family_that_goes_during_the_look_is_not_missing(
    projected: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    assert await gap(driver, _Meanwhile(projected, driver, settings)) is None  # type: ignore[arg-type]
    ((tombstones,),) = (await driver.execute_query("MATCH (t:Tombstone) RETURN count(t)")).records
    assert tombstones == 1


def incomplete(lack: str) -> float | None:
    """What the gauge says."""
    return REGISTRY.get_sample_value("nexus_graph_incomplete", {"lack": lack})


async def test_the_relay_sees_that_the_graph_was_wiped(
    projected: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.relay._EXTENT_SECONDS", 0.02)
    async with relaying(settings, patience_seconds=PATIENCE_SECONDS) as relay:
        await relay.active.wait()
        await driver.execute_query(WIPE_BUT_ONE)
        while incomplete("families") != 1:
            await relay.drained()
        await rebuild(projected, driver, settings)
        while incomplete("families") or incomplete("rebuild"):
            await relay.drained()
        await driver.execute_query(WIPE_BUT_ONE)
        while incomplete("families") != 1:
            await relay.drained()
    assert incomplete("families") == 0  # another relay may be the active one now


async def test_what_only_a_command_mends_is_logged_once(
    projected: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    watch = Watch(projected, driver)
    with capture_logs() as logged:
        await watch.look()
        assert logged == []
        await driver.execute_query(WIPE_BUT_ONE)
        for _ in range(3):
            await watch.look()
        assert [(line["event"], line["log_level"], line["lack"]) for line in logged] == [
            ("graph_incomplete", "warning", "families")
        ]
        assert logged[0]["next_step"] == "run `nexus-graph rebuild-graph`"
        await rebuild(projected, driver, settings)
        for _ in range(3):
            await watch.look()
        assert [line["event"] for line in logged] == ["graph_incomplete", "graph_whole"]


async def test_duplicates_keep_a_constraint_away_until_a_rebuild(
    projected: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    watch = Watch(projected, driver)
    await driver.execute_query("DROP CONSTRAINT contact_id")
    try:
        await driver.execute_query("UNWIND [1, 1] AS id CREATE (:Contact {id: id})")
        with capture_logs() as logged:
            for _ in range(3):
                await watch.look()
        (line,) = logged
        assert (line["event"], line["lack"]) == ("graph_incomplete", "constraints")
        assert line["reason"] == "lacks its constraints or indexes on Contact.id and holds duplicates"
        assert line["next_step"] == "run `nexus-graph rebuild-graph`"
        assert incomplete("constraints") == 1
    finally:
        await rebuild(projected, driver, settings)
    await watch.look()
    assert incomplete("constraints") == 0
    assert await missing_schema(driver) == []


async def test_the_advice_for_missing_constraints_knows_whether_a_relay_is_at_work(
    projected: Pool, driver: AsyncDriver, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.relay._EXTENT_SECONDS", 3600)
    lacks = "lacks its constraints or indexes on Contact.id"
    duplicates = "if its log says that the graph holds duplicates, run `nexus-graph rebuild-graph`"

    async def is_said(advice: str) -> None:
        assert await health(settings) == (
            200,
            "degraded",
            {"status": "degraded", "reason": f"{lacks}: {advice}; {duplicates}"},
        )
        assert (await doctor_says(settings, tmp_path))["graph"] == (
            Level.FAIL,
            f"it {lacks}; {advice}; {duplicates}",
        )

    try:
        await driver.execute_query("DROP CONSTRAINT contact_id")
        await is_said("start `nexus-graph relay`, which puts them back")
        async with relaying(settings) as relay:
            await relay.active.wait()
            await driver.execute_query("DROP CONSTRAINT contact_id")
            await is_said("a relay is at work and puts them back")
    finally:
        await ensure_constraints(driver)


async def test_doctor_warns_of_a_relay_that_does_not_work_or_is_kept_from_it(
    projected: Pool, settings: Settings, tmp_path: Path
) -> None:
    await identify(projected, ("late@x.example", None))
    await projected.execute(
        "UPDATE outbox SET queued_at = now() - interval '60 s', attempts = 1, next_try_at = now() + interval '1 h'"
    )
    level, text = (await doctor_says(settings, tmp_path))["relay"]
    assert level is Level.WARN
    assert " s behind and no relay is at work: start `nexus-graph relay`; nexus-graph relay" in text
    async with relaying(settings) as relay:
        await relay.active.wait()
        level, text = (await doctor_says(settings, tmp_path))["relay"]
    assert level is Level.WARN
    assert " s behind; a relay is at work: its log says what keeps it; read that log" in text


async def test_readers_of_a_graph_that_loses_its_nodes_get_what_the_record_has(
    pool: Pool, driver: AsyncDriver, settings: Settings, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a wipe, a rebuild that broke off or an analyst has left of the graph."""
    await identify(pool, *((f"e{rng.randrange(12)}@x.example", f"+1555000{rng.randrange(12):04d}") for _ in range(20)))
    await rebuild(pool, driver, settings)
    ((nodes,),) = (await driver.execute_query("MATCH (n) RETURN collect(elementId(n))")).records
    rng.shuffle(nodes)
    keys = [FamilyKey("contact", number) for number in range(1, 22)]
    for number in range(12):
        keys += [FamilyKey("email", f"e{number}@x.example"), FamilyKey("phone", f"+1555000{number:04d}")]
    by_graph = []
    monkeypatch.setattr("nexus_graph.graph.reads._WARM_SECONDS", PATIENCE_SECONDS)
    waits = ("graph_patience_seconds", "graph_timeout_seconds")
    patient = settings.model_copy(update=dict.fromkeys(waits, PATIENCE_SECONDS))  # a busy machine hides no answer
    async with open_identity(patient) as identity:
        recorded = [await identity.families.family(key, source=Source.RECORD) for key in keys]
        assert None in recorded
        for node in [None, *nodes]:
            await driver.execute_query("MATCH (n) WHERE elementId(n) = $node DETACH DELETE n", node=node)
            answers = await asyncio.gather(*(identity.families.family(key) for key in keys))
            for key, answer, family in zip(keys, answers, recorded, strict=True):
                assert (answer and answer.contacts) == (family and family.contacts), (key, answer, family)
            by_graph.append(sum(answer is not None and answer.source is Source.GRAPH for answer in answers))
    assert by_graph[0] == sum(family is not None for family in recorded)
    assert by_graph[-1] == 0


async def test_graphql_answers_from_the_record_while_the_graph_is_partial(
    projected: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(_contacts: int) -> None:
        raise KeyError("the first batch is written")

    monkeypatch.setattr("nexus_graph.graph.rebuild.BATCH_FAMILIES", 1)
    monkeypatch.setattr("nexus_graph.graph.states.LANES", 1)
    with pytest.raises(KeyError):
        await rebuild(projected, driver, settings, progress=break_off)
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url, timeout=30) as api:

        async def family(email: str) -> Any:
            answer = await api.post("/graphql", json={"query": FAMILY, "variables": {"email": email}})
            return answer.json()["data"]["contactFamily"]

        for number in range(FAMILIES):
            email = f"p{number}@x.example"
            found = await family(email)
            assert found["source"] == ("RECORD" if number else "GRAPH")
            assert (found["emails"], found["phoneNumbers"]) == ([email], [f"+1415555{number:04d}"])
        assert await family("unknown@x.example") is None
