"""A graph that lacks constraints or families, or whose rebuild broke off, is noticed, and what mends it is said."""

import asyncio
import os
import signal
from pathlib import Path

import httpx2
import pytest
from neo4j import AsyncDriver

from nexus_graph.commands.doctor import Level, examine
from nexus_graph.config import Settings
from nexus_graph.graph.driver import ensure_constraints
from nexus_graph.graph.extent import gap, missing_schema
from nexus_graph.graph.rebuild import rebuild
from nexus_graph.store.database import Pool
from tests import loading
from tests.graphing import PATIENCE_SECONDS, identify, relaying
from tests.running import running_api

FAMILIES = 9


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
        return answer.status_code, answer.json()["status"], answer.json()["checks"]["neo4j"]


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
    await driver.execute_query("MATCH (node) WHERE node.id IS NULL OR node.id <> 1 DETACH DELETE node")
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
        monkeypatch.setattr("nexus_graph.relay._CONSTRAINTS_SECONDS", 0.02)
        async with relaying(settings, patience_seconds=PATIENCE_SECONDS) as relay:
            await relay.active.wait()
            await driver.execute_query(f"DROP {dropped}")
            while await missing_schema(driver):  # noqa: ASYNC110 - the relay works in its own time
                await asyncio.sleep(0.02)
    finally:
        await ensure_constraints(driver)  # the tests after this one have the same graph


async def test_a_rebuild_that_broke_off_is_known_until_another_ends(
    projected: Pool, driver: AsyncDriver, settings: Settings, tmp_path: Path
) -> None:
    def break_off(_contacts: int) -> None:
        raise KeyError("the first batch is written")

    hasty = settings.model_copy(update={"rebuild_batch_families": 1})
    with pytest.raises(KeyError):
        await rebuild(projected, driver, hasty, progress=break_off)
    found = await gap(driver, projected)
    assert found is not None
    assert found.reason.startswith("is partial: a rebuild began at ")
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
        while (found := await gap(driver, None)) is None:  # noqa: ASYNC110 - another process works in its own time
            await asyncio.sleep(0.02)
        rebuilding.send_signal(signal_number)
        _, errors = await rebuilding.communicate()
        await holding.rollback()
    assert found.reason.startswith("is partial")
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
