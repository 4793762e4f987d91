"""Which relay works: one at a time, another soon after it is frozen, and no harm while two do."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import httpx2
import pytest
from neo4j import AsyncDriver

from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from nexus_graph.store.lease import RELAY_KEY
from nexus_graph.store.outbox import lag
from tests.stage.graphing import PATIENCE_SECONDS, findings, identify, outbox_rows, relaying, soft_delete
from tests.stage.health import check_of
from tests.stage.running import running_api

QUICK_SECONDS = 0.5


@pytest.fixture
def quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("nexus_graph.relay.POLL_SECONDS", 0.05)
    monkeypatch.setattr("nexus_graph.relay.AWAY_MAX_SECONDS", 0.2)
    monkeypatch.setattr("nexus_graph.store.lease.LEASE_SECONDS", QUICK_SECONDS)
    return settings


@asynccontextmanager
async def relay_process(settings: Settings) -> AsyncIterator[Process]:
    """`nexus-graph relay`, once it works."""
    environment = os.environ | {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "NEO4J_URI": settings.neo4j_uri,
        "NEO4J_USER": settings.neo4j_user,
        "NEO4J_PASSWORD": settings.neo4j_password.get_secret_value(),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nexus_graph", "relay", env=environment, stderr=PIPE
    )
    try:
        await said(process, "relay_active")
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        await process.wait()


async def said(process: Process, event: str) -> None:
    """Return once it has logged this."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while json.loads(await process.stderr.readline())["event"] != event:
            pass


async def test_a_frozen_relay_is_replaced_and_stands_back_when_it_comes_back(
    pool: Pool, driver: AsyncDriver, settings: Settings, quick: Settings
) -> None:
    async with relay_process(settings) as frozen, relaying(quick) as other:
        frozen.send_signal(signal.SIGSTOP)
        await identify(pool, *((f"e{number}@x.example", f"+1555000{number:04d}") for number in range(20)))
        await other.active.wait()
        await other.drained()
        assert await outbox_rows(pool) == []
        frozen.send_signal(signal.SIGCONT)
        await said(frozen, "lease_lost")
        await identify(pool, ("e1@x.example", "+15550000002"))
        await other.drained()
        assert other.active.is_set()
        assert await outbox_rows(pool) == []
    assert await findings(pool, driver) == []


async def test_one_that_thaws_between_the_graphs_commit_and_the_deletion_loses_nothing(
    pool: Pool, driver: AsyncDriver, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It deletes exactly the rows it had read, although it knows nothing yet of the one that took over."""
    stopped, thawed = asyncio.Event(), asyncio.Event()

    async def freeze() -> None:
        stopped.set()
        await thawed.wait()

    await identify(pool, ("a@x.example", "+15550000001"), ("b@x.example", "+15550000002"))
    monkeypatch.setattr("nexus_graph.store.lease.LEASE_SECONDS", 3600.0)  # the first one never renews it
    async with relaying(quick, on_projected=freeze) as old:
        await stopped.wait()
        monkeypatch.setattr("nexus_graph.store.lease.LEASE_SECONDS", QUICK_SECONDS)
        async with relaying(quick) as new:
            await new.active.wait()
            await identify(pool, ("a@x.example", "+15550000002"), ("c@x.example", "+15550000003"))
            await soft_delete(pool, 1)
            await new.drained()
            await identify(pool, ("d@x.example", "+15550000003"))
            thawed.set()
            await asyncio.gather(old.drained(), new.drained())
            assert old.active.is_set()
            assert new.active.is_set()
    assert await outbox_rows(pool) == []
    assert await findings(pool, driver) == []


async def test_one_that_stops_gives_its_lease_back(
    pool: Pool, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.store.lease.LEASE_SECONDS", 3600.0)
    async with relaying(quick) as first:
        await first.active.wait()
        async with relaying(quick) as second:
            first.stop()
            await second.active.wait()
    assert (await lag(pool)).renewed_seconds == inf


async def test_one_that_cannot_renew_its_lease_does_not_take_it_for_its_own(pool: Pool, quick: Settings) -> None:
    async with relaying(quick) as relay:
        await relay.active.wait()
        await pool.execute("REVOKE UPDATE ON relay_lease FROM nexus_relay")
        while relay.active.is_set():
            await pool.fetchval("SELECT 1")
        await pool.execute("GRANT UPDATE ON relay_lease TO nexus_relay")
        await relay.active.wait()


async def test_health_tells_that_the_graph_is_behind_and_what_to_do(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.api.ops.REMEMBERED_SECONDS", 0.0)
    await identify(pool, ("a@x.example", None))
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url, timeout=10) as api:
        assert check_of(await api.get("/health"), "relay") == {"status": "ok"}
        await pool.execute("UPDATE outbox SET queued_at = now() - interval '90 s'")
        response = await api.get("/health")
        assert (response.status_code, response.json()["status"]) == (200, "degraded")
        told = response.json()["checks"]["relay"]
        assert told["status"] == "degraded"
        assert told["reason"].endswith("s behind and no relay is at work: start `nexus-graph relay`")
        await pool.execute(
            "INSERT INTO relay_lease VALUES ($1, gen_random_uuid(), pg_backend_pid(), clock_timestamp())", RELAY_KEY
        )
        assert "a relay is at work" in (await api.get("/health")).json()["checks"]["relay"]["reason"]
        metrics = (await api.get("/metrics")).text
        (age,) = [line.split()[-1] for line in metrics.splitlines() if line.startswith("nexus_outbox_oldest_age")]
        assert float(age) >= 90
        (renewed,) = [line.split()[-1] for line in metrics.splitlines() if line.startswith("nexus_relay_renewed_age")]
        assert float(renewed) < PATIENCE_SECONDS
        await pool.execute("DELETE FROM outbox")
        response = await api.get("/health")
        assert check_of(response, "relay") == {"status": "ok"}
        assert "lacks 1 families" in check_of(response, "neo4j")["reason"], "what nothing brings any more is missing"
