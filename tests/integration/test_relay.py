"""The relay: nothing is skipped, nothing is applied to harm, and what goes wrong stays where it went wrong."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable
from pathlib import Path

import httpx2
import pytest
from neo4j import AsyncDriver
from prometheus_client import REGISTRY

from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from nexus_graph.store.lease import RELAY_KEY
from nexus_graph.store.outbox import TRIES_MAX, outbox_gauges
from tests.stage.graphing import (
    PATIENCE_SECONDS,
    findings,
    gate_before_graph,
    identify,
    outbox_rows,
    picture,
    relaying,
    soft_delete,
)
from tests.stage.relays import StagedRelay


@pytest.fixture
def quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings, and a relay that waits for nothing long."""
    monkeypatch.setattr("nexus_graph.relay.POLL_SECONDS", 0.05)
    monkeypatch.setattr("nexus_graph.relay.AWAY_MAX_SECONDS", 0.1)
    monkeypatch.setattr("nexus_graph.relay.PACE_SECONDS", 0.0)
    for place in ("relay", "store.outbox"):
        monkeypatch.setattr(f"nexus_graph.{place}.RETRY_BASE_SECONDS", 0.01)
    monkeypatch.setattr("nexus_graph.store.outbox.RETRY_MAX_SECONDS", 0.05)
    return settings


def _people(count: int) -> list[tuple[str, str]]:
    return [(f"p{n}@x.example", f"+1555{n:07d}") for n in range(count)]


async def test_what_the_record_holds_appears_in_the_graph(pool: Pool, driver: AsyncDriver, quick: Settings) -> None:
    await identify(pool, *_people(30), ("p1@x.example", "+15550000002"), ("p1@x.example", "+15559999999"))
    await soft_delete(pool, 3)
    async with relaying(quick) as relay:
        await relay.drained()
        assert await outbox_rows(pool) == []
        assert await findings(pool, driver) == []


async def test_a_notice_wakes_it_and_without_one_it_looks_all_the_same(
    pool: Pool, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    projected = asyncio.Event()

    async def on_projected() -> None:
        projected.set()

    with monkeypatch.context() as patched:
        patched.setattr("nexus_graph.relay.POLL_SECONDS", 3600.0)
        async with relaying(quick, on_projected=on_projected) as relay:
            await relay.drained()
            for email in ("the.very.first@x.example", "another@x.example"):
                projected.clear()
                await identify(pool, (email, None))
                await projected.wait()
    projected.clear()
    async with relaying(quick, on_projected=on_projected) as relay:
        await relay.drained()
        # A row whose notice was lost.
        await pool.execute("INSERT INTO outbox (seq, family_id, queued_at) VALUES (nextval('change_seq'), 1, now())")
        await projected.wait()


async def test_killed_between_the_graphs_commit_and_the_deletion_it_applies_again_and_changes_nothing(
    pool: Pool, driver: AsyncDriver, quick: Settings
) -> None:
    await identify(pool, *_people(10), ("p1@x.example", "+15550000002"))
    rows = await outbox_rows(pool)
    killed = asyncio.Event()

    async def kill() -> None:
        killed.set()
        await asyncio.Event().wait()

    dying = asyncio.create_task(StagedRelay(quick, on_projected=kill).work())
    await killed.wait()
    dying.cancel()
    await asyncio.wait({dying})
    assert await outbox_rows(pool) == rows
    committed = await picture(driver)
    assert committed[0]

    async with relaying(quick) as relay:
        await relay.drained()
    assert await outbox_rows(pool) == []
    assert await picture(driver) == committed
    assert await findings(pool, driver) == []


async def test_a_row_that_comes_while_its_family_is_written_is_not_lost(
    pool: Pool, driver: AsyncDriver, quick: Settings
) -> None:
    later: list[tuple[str, str]] = [("a@x.example", "+15550000002"), ("a@x.example", "+15550000003")]

    async def change_again() -> None:
        if later:
            await identify(pool, later.pop())

    await identify(pool, ("a@x.example", "+15550000001"))
    async with relaying(quick, on_projected=change_again) as relay:
        await relay.drained()
    assert later == []
    assert await outbox_rows(pool) == []
    assert await findings(pool, driver) == []


async def test_two_active_relays_do_no_harm(
    pool: Pool, driver: AsyncDriver, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.relay.BATCH_ROWS", 7)
    async with relaying(quick) as one, relaying(quick, key=RELAY_KEY + 1) as other:
        await asyncio.gather(one.active.wait(), other.active.wait())
        people = _people(12)
        for email, _ in people:
            await identify(pool, *((email, phone) for _, phone in people[:: 1 + len(email) % 3]), *people)
        for contact_id in (1, 5, 9):
            await soft_delete(pool, contact_id)
        await asyncio.gather(one.drained(), other.drained())
    assert await outbox_rows(pool) == []
    assert await findings(pool, driver) == []


async def test_one_works_and_the_other_takes_over_when_its_connection_is_gone(pool: Pool, quick: Settings) -> None:
    async with relaying(quick) as first:
        await first.active.wait()
        async with relaying(quick) as second:
            await identify(pool, *_people(5))
            await first.drained()
            assert not second.active.is_set()
            await pool.execute("SELECT pg_terminate_backend(pid) FROM relay_lease WHERE key = $1", RELAY_KEY)
            await identify(pool, ("late@x.example", None))
            await _any(first.drained(), second.drained())
            assert first.active.is_set() != second.active.is_set()
            assert await outbox_rows(pool) == []


async def _any(*coroutines: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _poison(pool: Pool) -> int:
    """A family whose state cannot be read: nothing has a number for its time."""
    family_id: int = await pool.fetchval(
        "INSERT INTO contacts (email, link_precedence, created_at) VALUES ('bad@x.example', 'primary', 'infinity') "
        "RETURNING id"
    )
    await _queue(pool, family_id)
    return family_id


async def _queue(pool: Pool, family_id: int) -> None:
    await pool.execute(
        "INSERT INTO outbox (seq, family_id, queued_at) VALUES (nextval('change_seq'), $1, now())", family_id
    )


async def _parked(pool: Pool, relay: StagedRelay) -> None:
    """Return once nothing but parked rows is left."""
    while await pool.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE parked_at IS NULL)"):
        await relay.drained()


async def test_a_family_that_cannot_be_projected_is_parked_and_the_others_flow(
    pool: Pool, driver: AsyncDriver, quick: Settings
) -> None:
    await identify(pool, *_people(3))
    bad = await _poison(pool)
    await identify(pool, ("p3@x.example", "+15550000003"))
    async with relaying(quick) as relay:
        await _parked(pool, relay)
        (row,) = await pool.fetch("SELECT * FROM outbox")
        assert (row["family_id"], row["attempts"]) == (bad, 5)
        assert row["last_error"] == "FeatureNotSupportedError:0A000"
        await outbox_gauges(pool)
        assert REGISTRY.get_sample_value("nexus_outbox_parked") == 1
        assert REGISTRY.get_sample_value("nexus_outbox_depth") == 0
        # Whoever is not ill is in the graph.
        found = await driver.execute_query("MATCH (f:Family) RETURN f.id AS id ORDER BY id")
        assert [record["id"] for record in found.records] == [1, 2, 3, 5]

        # Still ill: a new row is tried afresh, and parked on its own account.
        await _queue(pool, bad)
        await _parked(pool, relay)
        assert [row["attempts"] for row in await pool.fetch("SELECT attempts FROM outbox")] == [5, 5]

        # Cured: one look at the family answers its parked rows as well.
        await pool.execute("UPDATE contacts SET created_at = now() WHERE id = $1", bad)
        await _queue(pool, bad)
        await relay.drained()
        assert await outbox_rows(pool) == []
    assert await findings(pool, driver) == []


async def test_neo4j_away_is_waited_for_and_then_worked_off_in_order(
    pool: Pool, driver: AsyncDriver, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest: list[int] = []

    async def on_projected() -> None:
        oldest.append((await outbox_rows(pool))[0])

    monkeypatch.setattr("nexus_graph.relay.BATCH_ROWS", 10)
    monkeypatch.setattr("nexus_graph.relay.BATCH_ROWS_MAX", 20)
    async with gate_before_graph(quick) as (gate, through), relaying(through, on_projected=on_projected) as relay:
        await relay.drained()
        gate.shut()
        await identify(pool, *_people(60))
        await gate.refused.wait()
        rows = await outbox_rows(pool)
        assert len(rows) == 60
        gate.open()
        await relay.drained()
    # The first batch was full, so there is more: the next ones are twice as large, and no larger.
    assert oldest == [rows[0], rows[10], rows[30], rows[50]]
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0
    assert await findings(pool, driver) == []


async def test_neo4j_away_counts_against_no_row(pool: Pool, quick: Settings) -> None:
    async with gate_before_graph(quick) as (gate, through), relaying(through) as relay:
        await relay.drained()
        gate.shut()
        await identify(pool, ("a@x.example", None))
        for _ in range(TRIES_MAX + 2):
            gate.refused.clear()
            await gate.refused.wait()
        (row,) = await pool.fetch("SELECT * FROM outbox")
        assert (row["attempts"], row["parked_at"], row["last_error"]) == (0, None, None)


async def test_it_stops_between_batches(
    pool: Pool, driver: AsyncDriver, settings: Settings, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await identify(pool, *_people(30))

    async def stop() -> None:
        relay.stop()

    monkeypatch.setattr("nexus_graph.relay.BATCH_ROWS", 10)
    relay = StagedRelay(quick, on_projected=stop)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await relay.work()
    assert len(await outbox_rows(pool)) == 20
    assert (await picture(driver))[0]


async def test_it_watches_for_drift(
    pool: Pool, driver: AsyncDriver, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await identify(pool, *_people(3))
    monkeypatch.setattr("nexus_graph.relay.DRIFT_FIRST_CHECK_SECONDS", 0.02)
    monkeypatch.setattr("nexus_graph.relay.DRIFT_CHECK_SECONDS", 0.02)
    async with relaying(quick) as relay:
        await relay.drained()
        await driver.execute_query("MATCH (c:Contact {id: 2}) SET c.email = 'z@x.example'")
        while REGISTRY.get_sample_value("nexus_drift_families") != 1:
            await relay.drained()
        await driver.execute_query("MATCH (c:Contact {id: 2}) SET c.email = 'p1@x.example'")
        while REGISTRY.get_sample_value("nexus_drift_families") != 0:
            await relay.drained()


async def test_the_command_relays_shows_its_metrics_and_stops_when_told(
    pool: Pool, settings: Settings, tmp_path: Path
) -> None:
    await identify(pool, *_people(3))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "NEO4J_URI": settings.neo4j_uri,
        "NEO4J_USER": settings.neo4j_user,
        "NEO4J_PASSWORD": settings.neo4j_password.get_secret_value(),
        "NEXUS_RELAY_METRICS_PORT": str(port),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nexus_graph", "relay", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        said = json.loads(await process.stderr.readline())
        assert (said["part"], said["event"]) == ("relay", "relay_active")
        while await outbox_rows(pool):
            pass
        async with httpx2.AsyncClient() as client:
            metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        assert "nexus_relay_projected_families_total 3.0" in metrics.splitlines()
        # `up` gives the same folder to the API, whose /metrics then tells of both.
        together = "from nexus_graph.telemetry import exposition; print(exposition().decode())"
        metrics = ""
        while "nexus_relay_projected_families_total 3.0" not in metrics.splitlines():  # it writes every second
            other = await asyncio.create_subprocess_exec(
                sys.executable, "-c", together, env=environment, stdout=asyncio.subprocess.PIPE
            )
            metrics = (await other.communicate())[0].decode()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        rest = (await process.stderr.read()).decode()
    assert json.loads(rest.splitlines()[-1])["event"] == "relay_stopped"
    assert "example" not in rest


async def test_it_tells_how_far_behind_the_graph_is(
    pool: Pool, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await identify(pool, *_people(4))
    await outbox_gauges(pool)
    assert REGISTRY.get_sample_value("nexus_outbox_depth") == 4
    assert 0 < (REGISTRY.get_sample_value("nexus_outbox_oldest_age_seconds") or 0) < PATIENCE_SECONDS
    lags = REGISTRY.get_sample_value("nexus_relay_lag_seconds_count") or 0
    monkeypatch.setattr("nexus_graph.relay.GAUGE_SECONDS", 1e-6)
    async with relaying(quick) as relay:
        await relay.drained()
    assert REGISTRY.get_sample_value("nexus_relay_lag_seconds_count") == lags + 4
    assert REGISTRY.get_sample_value("nexus_outbox_depth") == 0
    assert REGISTRY.get_sample_value("nexus_outbox_oldest_age_seconds") == 0
