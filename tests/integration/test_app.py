"""The application as operators meet it: health, readiness, metrics, starting, stopping, and servers that go away."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from nexus_graph import __version__
from nexus_graph.app import CANNOT_START, allow_descriptors, listen, serve
from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from tests.stage.graphing import identify
from tests.stage.running import ServeProcess, both_ways, running_api
from tests.stage.wire import wired

ADA = {"email": "ada@example.com", "phoneNumber": "123456"}
IDENTIFY_SOMEBODY = """
    mutation {
      identify(input: {email: "x@example.com"}) {
        __typename
        ... on UserError { code field }
        ... on TemporarilyUnavailableError { retryAfterSeconds }
      }
    }
"""
NOWHERE = "127.0.0.1:9"  # the discard port: nothing listens there
LOCK_WAITERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def somebody_waits_for_the_lock(pool: Pool) -> None:
    async with asyncio.timeout(10):
        while not await pool.fetchval(LOCK_WAITERS):
            pass


@asynccontextmanager
async def api_of(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url, timeout=20) as client:
        yield client


@both_ways
async def test_all_is_well(api: httpx2.AsyncClient) -> None:
    response = await api.get("/health")
    assert response.status_code == 200
    told = response.json()
    assert told.pop("uptimeSeconds") >= 0
    process = told.pop("process")
    assert process["memoryBytes"] > 10_000_000
    assert process["cpuSeconds"] > 0
    assert process["cpuPercent"] >= 0
    assert all(0 <= check.pop("responseSeconds") < 5 for check in told["checks"].values())
    assert told.pop("degradation") == []
    assert told == {
        "status": "ok",
        "version": __version__,
        "checks": {name: {"status": "ok"} for name in ("postgres", "neo4j", "redis", "relay")},
    }
    assert (await api.get("/livez")).json() == {"status": "ok"}
    ready = await api.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ok",
        "checks": {"postgres": {"status": "ok"}, "migrations": {"status": "ok"}},
    }
    assert (await api.head("/health")).status_code == 200


@pytest.mark.parametrize(
    ("server", "elsewhere"),
    [("neo4j", {"neo4j_uri": f"bolt://{NOWHERE}"}), ("redis", {"redis_url": SecretStr(f"redis://{NOWHERE}/0")})],
)
async def test_without_graph_or_cache_the_api_is_degraded_and_serves(
    settings: Settings, server: str, elsewhere: dict[str, Any]
) -> None:
    async with api_of(settings.model_copy(update=elsewhere)) as api:
        response = await api.get("/health")
        assert response.status_code == 200
        told = response.json()
        assert told["status"] == "degraded"
        assert [name for name, check in told["checks"].items() if check["status"] == "down"] == [server]
        assert len(told["degradation"]) == 1
        assert (await api.get("/readyz")).status_code == 200
        assert (await api.post("/identify", json=ADA)).status_code == 200
        query = "{contactFamily(by: {contactId: 1}, atLeast: 1) {source emails}}"
        told = (await api.post("/graphql", json={"query": query})).json()
        assert told["data"]["contactFamily"]["emails"] == ["ada@example.com"]


@both_ways
async def test_without_the_record_callers_are_told_to_come_back(settings: Settings) -> None:
    async with wired(settings) as (wired_settings, wire), api_of(wired_settings) as api:
        assert (await api.post("/identify", json=ADA)).status_code == 200
        await wire.cut()

        response = await api.post("/identify", json=ADA)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["code"] == "UNAVAILABLE"
        told = (await api.post("/graphql", json={"query": IDENTIFY_SOMEBODY})).json()
        assert told["data"]["identify"] == {
            "__typename": "TemporarilyUnavailableError",
            "code": "UNAVAILABLE",
            "field": None,
            "retryAfterSeconds": 1,
        }
        query = "{contactFamily(by: {contactId: 1}, source: RECORD) {id}}"
        told = (await api.post("/graphql", json={"query": query})).json()
        assert told["data"] == {"contactFamily": None}
        assert told["errors"][0]["extensions"] == {"code": "UNAVAILABLE", "retryAfterSeconds": 1}

        health = await api.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "down")
        assert (await api.get("/readyz")).status_code == 503
        assert (await api.get("/livez")).status_code == 200

        await wire.mend()
        assert (await api.post("/identify", json=ADA)).headers["nexus-outcome"] == "MATCHED"
        assert (await api.get("/readyz")).status_code == 200


@both_ways
async def test_a_schema_behind_this_release_is_not_ready(settings: Settings, pool: Pool) -> None:
    await pool.execute("DELETE FROM schema_migrations WHERE number = (SELECT max(number) FROM schema_migrations)")
    async with api_of(settings) as api:
        response = await api.get("/readyz")
        assert response.status_code == 503
        assert response.json()["checks"] == {
            "postgres": {"status": "ok"},
            "migrations": {"status": "down", "reason": "1 not applied: run `nexus-graph migrate`"},
        }


@both_ways
async def test_metrics_count_by_route_and_never_by_caller(api: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await api.post("/identify", json=ADA)
    await api.get("/nowhere/ada@example.com")
    response = await api.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'nexus_request_duration_seconds_count{route="/identify",status="2xx"}' in response.text
    assert 'nexus_request_duration_seconds_count{route="none",status="4xx"}' in response.text
    assert 'nexus_identify_outcomes_total{outcome="CREATED"' in response.text
    assert "ada" not in response.text


@both_ways
async def test_metrics_show_how_much_the_graph_has_still_to_hear_of(pool: Pool, settings: Settings) -> None:
    """Whoever made the changes."""
    await identify(pool, ("ada@example.com", "+15550001"))
    await pool.execute("UPDATE outbox SET queued_at = queued_at - interval '90 seconds'")
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url) as api:
        text = (await api.get("/metrics")).text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(lines["nexus_outbox_depth"]) == 1
    assert 90 <= float(lines["nexus_outbox_oldest_age_seconds"]) < 120


@both_ways
async def test_a_caller_that_goes_away_takes_nobody_along(api: httpx2.AsyncClient, pool: Pool) -> None:
    """Both wait behind the write lock in one batch; one gives up; the other is answered."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT take_write_lock()")
        leaving = asyncio.create_task(api.post("/identify", json={"email": "gone@example.com"}))
        staying = asyncio.create_task(api.post("/identify", json=ADA))
        await somebody_waits_for_the_lock(pool)
        leaving.cancel()
        await asyncio.wait({leaving})
        await transaction.rollback()
    assert (await staying).status_code == 200


@pytest.mark.parametrize(
    ("host", "auth", "status"),
    [("127.0.0.1", "auto", 200), ("0.0.0.0", "auto", 401), ("0.0.0.0", "off", 200), ("127.0.0.1", "on", 401)],
)
async def test_an_address_that_others_can_reach_asks_for_credentials(
    settings: Settings, project: Path, host: str, auth: str, status: int
) -> None:
    running = await ServeProcess.start(settings, project, "--host", host, NEXUS_AUTH=auth)
    url = await running.url()
    async with httpx2.AsyncClient(base_url=url.replace("0.0.0.0", "127.0.0.1")) as client:
        assert (await client.post("/identify", json=ADA)).status_code == status
        assert (await client.get("/readyz")).status_code == 200
    running.process.terminate()
    assert await running.process.wait() == 0


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0, backlog=1) as taken:
        port = taken.getsockname()[1]
        assert serve(Settings(), host="127.0.0.1", port=port) == CANNOT_START
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in capsys.readouterr().err


def test_connections_answer_without_delay() -> None:
    with (
        listen("127.0.0.1", 0, backlog=1) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_what_was_accepted_is_answered_before_it_stops(settings: Settings, pool: Pool, project: Path) -> None:
    running = await ServeProcess.start(settings, project)
    async with httpx2.AsyncClient(base_url=await running.url(), timeout=20) as api, pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT take_write_lock()")
        asked = [
            asyncio.create_task(api.post("/identify", json={"email": f"user{number}@example.com"}))
            for number in range(5)
        ]
        await somebody_waits_for_the_lock(pool)
        running.process.send_signal(signal.SIGTERM)
        await transaction.rollback()
        assert [response.status_code for response in await asyncio.gather(*asked)] == [200] * 5
    async with asyncio.timeout(10):
        assert await running.process.wait() == 0
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 5


async def test_it_does_not_start_without_the_record(settings: Settings, project: Path) -> None:
    away = settings.model_copy(update={"database_url": SecretStr(f"postgresql://postgres@{NOWHERE}/nexus")})
    running = await ServeProcess.start(away, project)
    assert (
        f"PostgreSQL at {NOWHERE}/nexus (DATABASE_URL) does not answer"
        in (await running.event("cannot_start"))["reason"]
    )
    async with asyncio.timeout(10):
        assert await running.process.wait() == CANNOT_START


async def test_workers_serve_from_one_socket(settings: Settings, pool: Pool, project: Path) -> None:
    running = await ServeProcess.start(settings, project, "--workers", "2")
    pids = {(await running.event("worker_started"))["pid"] for _ in range(2)}
    url = await running.url()
    await running.event("serving")
    await _identified(url, 40)
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 40
    # Each worker is asked for the metrics of both.
    async with httpx2.AsyncClient(base_url=url) as api, asyncio.timeout(30):
        while (
            'nexus_identify_outcomes_total{outcome="CREATED",path="write"} 40.0' not in (await api.get("/metrics")).text
        ):
            pass

    # One dies: the other serves, and a new one comes.
    os.kill(min(pids), signal.SIGKILL)
    assert (await running.event("worker_died"))["pid"] == min(pids)
    assert (await running.event("worker_started"))["pid"] not in pids
    await running.event("serving")
    await _identified(url, 40)

    running.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await running.process.wait() == 0
    with pytest.raises(httpx2.ConnectError):
        await _identified(url, 1)


async def test_workers_do_not_outlive_their_parent(
    settings: Settings, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    running = await ServeProcess.start(settings, project, "--workers", "2")
    for _ in range(2):
        url = await running.url()
    assert _metrics_folders(tmp_path), "what they count in"
    running.process.kill()
    assert running.process.stderr is not None
    async with asyncio.timeout(20):
        await running.process.stderr.read()  # until the last of them has closed it
    with pytest.raises(httpx2.ConnectError):
        await _identified(url, 1)
    assert not _metrics_folders(tmp_path)


def _metrics_folders(temporary: Path) -> list[Path]:
    return list(temporary.glob("nexus-metrics-*"))


async def test_a_worker_that_is_stopped_is_replaced(settings: Settings, pool: Pool, project: Path) -> None:
    """Its clients are cut off, so that they ask another; those of the other notice nothing."""
    running = await ServeProcess.start(settings, project, "--workers", "2")
    pids = {(await running.event("worker_started"))["pid"] for _ in range(2)}
    for _ in range(2):
        url = await running.url()
    stopped = min(pids)
    os.kill(stopped, signal.SIGSTOP)
    killed = await running.event("worker_killed")
    assert (killed["pid"], killed["cause"]) == (stopped, "stopped")
    assert (await running.event("worker_started"))["pid"] not in pids
    await _identified(url, 40)
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 40
    running.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await running.process.wait() == 0


async def test_workers_that_cannot_start_end_it(settings: Settings, project: Path) -> None:
    away = settings.model_copy(update={"database_url": SecretStr(f"postgresql://postgres@{NOWHERE}/nexus")})
    running = await ServeProcess.start(away, project, "--workers", "2")
    await running.event("cannot_start")
    async with asyncio.timeout(20):
        assert await running.process.wait() == CANNOT_START


async def _identified(url: str, people: int) -> None:
    """As many people, each over a connection of its own."""
    for number in range(people):
        async with httpx2.AsyncClient(base_url=url) as api:
            response = await api.post("/identify", json={"email": f"user{number}@example.com"})
            assert response.status_code == 200


async def test_idle_connections_of_one_client_lock_nobody_out(settings: Settings, project: Path) -> None:
    """They are more than the process may have descriptors; what it may have is used, and the rest is refused."""
    allow_descriptors()
    running = await ServeProcess.start(settings, project, descriptors="256 1024")
    serving = await running.event("serving")
    assert 512 < serving["connections_max"] < 1_024, "the soft limit was raised to the hard one"
    idle = [await asyncio.open_connection(serving["host"], serving["port"]) for _ in range(1_100)]
    async with httpx2.AsyncClient(base_url=f"http://{serving['host']}:{serving['port']}") as api:
        async with asyncio.timeout(30):
            while not await _is_answered(api):
                pass
        for path in ("/livez", "/health", "/metrics"):
            assert (await api.get(path, headers={"Connection": "close"})).status_code == 200
    told = await running.event("connections_turned_away")
    assert any(cause.startswith("refused_") for cause in told)
    for _, writer in idle:
        writer.close()
    running.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await running.process.wait() == 0


async def _is_answered(api: httpx2.AsyncClient) -> bool:
    """Whether a newcomer is served, who may be told to come again while the idle ones are new as well."""
    try:
        answer = await api.post("/identify", json=ADA, headers={"Connection": "close"})
    except httpx2.TransportError:
        return False
    assert answer.status_code in (200, 503)
    return answer.status_code == 200
