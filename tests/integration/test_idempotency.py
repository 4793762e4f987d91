"""Idempotency-Key: a write of /v2 is done once, however often it is sent, also if the process dies over it."""

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx2
import pytest

from nexus_graph.config import Settings
from nexus_graph.identity.opening import Identity
from nexus_graph.identity.ordered import EXPIRE_MAX
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool
from tests.stage.running import ServeProcess, running_api

ADA = {"email": "ada@example.com", "phoneNumber": "+14155550100"}
ROWS = {"rows": [ADA, {"email": "lovelace@example.com", "phoneNumber": ADA["phoneNumber"]}, {"email": "no"}]}
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
RETRIES = 32
WRITE_LOCK = "SELECT take_write_lock()"


async def sent(api: httpx2.AsyncClient, path: str, body: object, key: str = KEY) -> httpx2.Response:
    return await api.post(path, json=body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize(("path", "body"), [("/v2/identify", ADA), ("/v2/identify/batch", ROWS)], ids=["one", "batch"])
async def test_the_same_again_gets_the_same_answer(
    api: httpx2.AsyncClient, pool: Pool, path: str, body: dict[str, Any]
) -> None:
    request_id = "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0"
    headers = {"Idempotency-Key": KEY, "X-Request-ID": request_id}
    first = await api.post(path, json=body, headers=headers)
    assert first.status_code == 200, first.text
    assert "CREATED" in first.text
    assert "idempotent-replayed" not in first.headers
    await api.post("/v2/identify", json={"email": "later@example.com", "phoneNumber": ADA["phoneNumber"]})
    events = await pool.fetchval("SELECT count(*) FROM identity_events")
    for key in (KEY, f'"{KEY}"'):
        again = await api.post(path, json=body, headers={**headers, "Idempotency-Key": key})
        assert (again.status_code, again.text) == (200, first.text)
        assert again.headers["idempotent-replayed"] == "true"
    assert await pool.fetchval("SELECT count(*) FROM identity_events") == events
    without = await api.post(path, json=body)
    assert without.text != first.text


async def test_another_request_by_the_same_key_is_refused(api: httpx2.AsyncClient, pool: Pool) -> None:
    await sent(api, "/v2/identify", ADA)
    for path, body in (("/v2/identify", {"email": "bob@example.com"}), ("/v2/identify/batch", ADA)):
        refused = await sent(api, path, body if path == "/v2/identify" else {"rows": [ADA]})
        assert (refused.status_code, refused.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 1


async def test_a_refused_request_leaves_the_key_free(api: httpx2.AsyncClient) -> None:
    assert (await sent(api, "/v2/identify", {"email": "nobody"})).status_code == 400
    assert (await sent(api, "/v2/identify", ADA)).json()["outcome"] == "CREATED"


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, '"' + "x" * 256 + '"', '"open', 'a"b', "\\", "é", "a\tb"])
async def test_keys_that_are_none(api: httpx2.AsyncClient, pool: Pool, key: str) -> None:
    for path, body in (("/v2/identify", ADA), ("/v2/identify/batch", ROWS)):
        response = await api.post(path, json=body, headers={b"Idempotency-Key": key.encode()})
        assert (response.status_code, response.json()["code"]) == (400, "BAD_USER_INPUT"), response.text
        assert response.json()["errors"][0]["field"] == "Idempotency-Key"
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 0


@pytest.mark.parametrize("key", ["x", "x" * 255, r'"a\"b\\c"', "a,b;c=d"])
async def test_keys_that_are_some(api: httpx2.AsyncClient, key: str) -> None:
    assert (await sent(api, "/v2/identify", ADA, key)).status_code == 200
    assert (await sent(api, "/v2/identify", ADA, key)).headers["idempotent-replayed"] == "true"


async def test_a_key_may_be_used_anew_once_it_has_expired(
    api: httpx2.AsyncClient, identity: Identity, pool: Pool
) -> None:
    await sent(api, "/v2/identify", ADA)
    await sent(api, "/v2/identify", ADA, "another")
    await pool.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 second'")
    other = await sent(api, "/v2/identify", {"email": "bob@example.com"})
    assert (other.status_code, other.json()["outcome"]) == (200, "CREATED")
    ((deleted,),) = await identity.record.fetch(sql("idempotency_expire"), EXPIRE_MAX)
    assert deleted == 1
    assert await pool.fetchval("SELECT count(*) FROM idempotency_keys") == 1
    assert (await sent(api, "/v2/identify", {"email": "bob@example.com"})).text == other.text


async def test_the_key_is_busy_while_its_request_is_decided(
    settings: Settings, api: httpx2.AsyncClient, pool: Pool
) -> None:
    async with running_api(settings) as second, httpx2.AsyncClient(base_url=second.url, timeout=10) as neighbour:
        async with pool.acquire() as writer, writer.transaction():
            await writer.execute(WRITE_LOCK)
            first = asyncio.create_task(sent(api, "/v2/identify", ADA))
            await waits_for_the_lock(pool)
            for caller in (api, neighbour):
                busy = await sent(caller, "/v2/identify", ADA)
                assert (busy.status_code, busy.json()["code"]) == (409, "IDEMPOTENCY_KEY_BUSY")
                assert busy.headers["retry-after"] == "1"
        decided = await first
        assert (await sent(neighbour, "/v2/identify", ADA)).text == decided.text


async def test_a_row_that_the_database_refuses_keeps_nothing(api: httpx2.AsyncClient, pool: Pool) -> None:
    await pool.execute("ALTER TABLE contacts ADD CONSTRAINT planted CHECK (email <> 'planted@example.com')")
    rows = {"rows": [ADA, {"email": "planted@example.com"}]}
    refused = await sent(api, "/v2/identify/batch", rows)
    assert (refused.status_code, refused.json()["code"]) == (422, "ROW_REJECTED")
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 0
    results = (await api.post("/v2/identify/batch", json=rows)).json()["results"]
    assert [result["status"] for result in results] == [200, 422]
    await pool.execute("ALTER TABLE contacts DROP CONSTRAINT planted")
    assert (await sent(api, "/v2/identify/batch", rows)).status_code == 200


@pytest.mark.parametrize("record_goes_on", [True, False], ids=["the record goes on", "the record stops as well"])
async def test_32_retries_and_a_kill_decide_once(
    settings: Settings, pool: Pool, project: Path, rng: random.Random, *, record_goes_on: bool
) -> None:
    """The process dies while the record decides. Its 32 callers ask the other process, until all have the answer."""
    rows = {"rows": [{"email": f"user{number}@example.com", "phoneNumber": "+14155550100"} for number in range(20)]}
    doomed, other = [await ServeProcess.start(settings, project) for _ in range(2)]
    urls = [await doomed.url(), await other.url()]
    refused: list[int] = []
    busy = asyncio.Event()

    async def retried(url: str) -> str:
        async with httpx2.AsyncClient(timeout=15) as client:
            while True:
                try:
                    response = await client.post(
                        f"{url}/v2/identify/batch", json=rows, headers={"Idempotency-Key": KEY}
                    )
                except httpx2.TransportError:
                    url = urls[1]
                    continue
                if response.status_code == 200:
                    return response.text
                assert response.status_code in (409, 503), response.text
                refused.append(response.status_code)
                if refused.count(409) >= RETRIES:
                    busy.set()
                await asyncio.sleep(rng.uniform(0.02, 0.1))

    try:
        async with pool.acquire() as writer, writer.transaction():
            await writer.execute(WRITE_LOCK)
            callers = [asyncio.create_task(retried(urls[0]))]
            backend = await waits_for_the_lock(pool)
            callers += [asyncio.create_task(retried(url)) for url in urls * (RETRIES // 2)][1:]
            async with asyncio.timeout(20):
                await busy.wait()
            doomed.process.kill()
            await doomed.process.wait()
            if not record_goes_on:
                await pool.execute("SELECT pg_terminate_backend($1)", backend)
        answers = await asyncio.gather(*callers)
    finally:
        for process in (doomed.process, other.process):
            if process.returncode is None:
                process.terminate()
            await process.wait()
    assert len(answers) == RETRIES
    assert len(set(answers)) == 1
    assert answers[0].count("CREATED") == 1
    assert answers[0].count('"LINKED"') == 19
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 20
    counted = await pool.fetchrow("SELECT count(DISTINCT request_id), count(*) FROM identity_events")
    assert counted is not None
    assert tuple(counted) == (1, 20)


async def waits_for_the_lock(pool: Pool) -> int:
    """Return the process id of the backend that waits for the write lock, once one does."""
    async with asyncio.timeout(10):
        while True:
            found = await pool.fetchval(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            if found is not None:
                return int(found)
            await asyncio.sleep(0.01)
