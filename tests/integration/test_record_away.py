"""The record as callers meet it when it is not itself, and when it hangs: 503 in time, told by the probes, mended."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from pydantic import SecretStr

from nexus_graph.config import Settings
from nexus_graph.identity.opening import RESOLVE_CONNECTIONS
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.health import check_of
from tests.stage.running import running_api
from tests.stage.stopping import backends, stopped
from tests.stage.wire import wired

Trouble = Callable[[Pool, Settings], AbstractAsyncContextManager[None]]

ADA = {"email": "ada@example.com", "phoneNumber": "123456"}
USUAL_WAY = [("X-Twice", "a"), ("X-Twice", "b")]
"""What sends a request past the direct way, and matters to nobody."""
IDENTIFY = """
    mutation ($email: EmailAddress!) {
      identify(input: {email: $email}) {
        __typename
        ... on UserError { code }
        ... on TemporarilyUnavailableError { retryAfterSeconds }
      }
    }
"""
EVENTS = "subscription { identityEvents(after: 0) { sequence kind } }"
_numbers = count(1)


def _somebody_new() -> str:
    return f"new{next(_numbers)}@example.com"


@pytest.fixture
async def login(settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    """Settings whose record is reached by a login of its own, and whose probes remember nothing."""
    name = f"login_{await pool.fetchval('SELECT current_database()')}"
    await pool.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'right' IN ROLE nexus_api")
    url = urlsplit(settings.database_url.get_secret_value())
    reached = url._replace(netloc=f"{name}:right@{url.hostname}:{url.port}").geturl()
    monkeypatch.setattr("nexus_graph.api.ops.REMEMBERED_SECONDS", 0.0)
    yield settings.model_copy(update={"database_url": SecretStr(reached)})
    await pool.execute(f"DROP ROLE {name}")


def _name(settings: Settings) -> str:
    return str(urlsplit(settings.database_url.get_secret_value()).username)


async def _end_sessions(pool: Pool, settings: Settings) -> None:
    await pool.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = $1", _name(settings)
    )


@asynccontextmanager
async def read_only(pool: Pool, _: Settings) -> AsyncIterator[None]:
    """As in maintenance: for every session at once, those that are open too."""
    async with pool.acquire() as admin:
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await admin.execute("SELECT pg_reload_conf()")


@asynccontextmanager
async def another_password(pool: Pool, settings: Settings) -> AsyncIterator[None]:
    await pool.execute(f"ALTER ROLE {_name(settings)} PASSWORD 'another'")
    await _end_sessions(pool, settings)
    try:
        yield
    finally:
        await pool.execute(f"ALTER ROLE {_name(settings)} PASSWORD 'right'")


@asynccontextmanager
async def no_connection_left(pool: Pool, settings: Settings) -> AsyncIterator[None]:
    await pool.execute(f"ALTER ROLE {_name(settings)} CONNECTION LIMIT 0")
    await _end_sessions(pool, settings)
    try:
        yield
    finally:
        await pool.execute(f"ALTER ROLE {_name(settings)} CONNECTION LIMIT -1")


@asynccontextmanager
async def rights_revoked(pool: Pool, _: Settings) -> AsyncIterator[None]:
    verbs = "FUNCTION identify_in_turn, identify_together"
    await pool.execute(f"REVOKE EXECUTE ON {verbs} FROM nexus_api")
    try:
        yield
    finally:
        await pool.execute(f"GRANT EXECUTE ON {verbs} TO nexus_api")


@asynccontextmanager
async def table_gone(pool: Pool, _: Settings) -> AsyncIterator[None]:
    await pool.execute("ALTER TABLE identity_events RENAME TO somewhere_else")
    try:
        yield
    finally:
        await pool.execute("ALTER TABLE somewhere_else RENAME TO identity_events")


@asynccontextmanager
async def api_of(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        asyncio.timeout(2 * PATIENCE_SECONDS),
        running_api(settings) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as client,
    ):
        yield client


async def _until(api: httpx2.AsyncClient, path: str, status: int) -> httpx2.Response:
    """The answer, once it has this status."""
    while (response := await api.get(path)).status_code != status:
        pass
    return response


async def _is_away(api: httpx2.AsyncClient) -> None:
    """Who asks to be identified is told to come back, whichever way the question takes."""
    for headers in ([], USUAL_WAY):
        response = await api.post("/identify", json={"email": _somebody_new()}, headers=headers)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1"), response.text
        assert response.json()["code"] == "UNAVAILABLE"
        asked = {"query": IDENTIFY, "variables": {"email": _somebody_new()}}
        told = (await api.post("/graphql", json=asked, headers=headers)).json()
        assert told["data"]["identify"] == {
            "__typename": "TemporarilyUnavailableError", "code": "UNAVAILABLE", "retryAfterSeconds": 1,
        }  # fmt: skip


async def _is_there_again(api: httpx2.AsyncClient) -> None:
    while (response := await api.post("/identify", json={"email": _somebody_new()})).status_code == 503:
        pass
    assert response.status_code == 200
    assert check_of(await _until(api, "/health", 200), "postgres") == {"status": "ok"}
    assert (await api.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (read_only, "is read-only"),
        (another_password, "refuses the login (28P01)"),
        (no_connection_left, "has no connection left (53300)"),
        (rights_revoked, "denies us a right that we need (42501)"),
        (table_gone, "lacks a table that we need; `nexus-graph migrate` makes them (42P01)"),
    ],
)
async def test_a_record_that_is_not_itself_is_away(login: Settings, pool: Pool, trouble: Trouble, reason: str) -> None:
    async with api_of(login) as api:
        assert (await api.post("/identify", json=ADA)).status_code == 200
        async with trouble(pool, login):
            if trouble is read_only:
                # Said before anybody found out; the reload reaches each session at its next statement.
                await _until(api, "/readyz", 503)
                # Reads go on.
                assert (await api.post("/identify", json=ADA)).headers["nexus-outcome"] == "MATCHED"
                query = "{contactFamily(by: {contactId: 1}, source: RECORD) {emails}}"
                told = (await api.post("/graphql", json={"query": query})).json()
                assert told["data"]["contactFamily"]["emails"] == ["ada@example.com"]
            await _is_away(api)
            assert check_of(await _until(api, "/health", 503), "postgres") == {"status": "down", "reason": reason}
            assert (await api.get("/readyz")).json()["checks"]["postgres"]["reason"] == reason
            assert (await api.get("/livez")).status_code == 200
        await _is_there_again(api)


async def test_a_table_that_another_holds_is_waited_for_no_longer_than_is_said(hasty: Settings, pool: Pool) -> None:
    """As by a rewrite of it: callers are told to come back, known ones as well, and nothing is left of it later."""
    async with api_of(hasty) as api:
        assert (await api.post("/identify", json=ADA)).status_code == 200
        async with pool.acquire() as holder, holder.transaction():
            await holder.execute("LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE")
            for body in ({"email": _somebody_new()}, ADA):
                response = await api.post("/identify", json=body)
                assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        await _is_there_again(api)
        assert (await api.post("/identify", json=ADA)).headers["nexus-outcome"] == "MATCHED"


async def test_a_table_that_changes_under_prepared_statements_costs_no_request(hasty: Settings, pool: Pool) -> None:
    """As an operator's or a later release's migration does. Every connection has prepared its statements by then."""
    queries = ("{contactFamily(by: {contactId: 1}, source: RECORD) {emails}}", "{contacts(first: 1) {nodes {id}}}")

    async def all_verbs(api: httpx2.AsyncClient) -> None:
        for _ in range(2 * hasty.read_connections):
            answers = await asyncio.gather(
                api.post("/identify", json={"email": _somebody_new()}),
                api.post("/identify", json=ADA),
                *(api.post("/graphql", json={"query": query}) for query in queries),
            )
            assert {answer.status_code for answer in answers} == {200}
            assert not any("errors" in answer.json() for answer in answers)

    patient = hasty.model_copy(update={"identify_timeout_seconds": float(PATIENCE_SECONDS)})
    async with api_of(patient) as api:
        await all_verbs(api)
        for change in (
            "ADD COLUMN nickname text",
            "ALTER COLUMN phone_number TYPE varchar(64)",
            "DROP COLUMN nickname",
        ):
            await pool.execute(f"ALTER TABLE contacts {change}")
            await all_verbs(api)


async def test_a_subscription_is_silent_while_the_record_is_not_itself(login: Settings, pool: Pool) -> None:
    async with api_of(login) as api:
        await api.post("/identify", json=ADA)
        accept = {"Accept": "text/event-stream"}
        async with api.stream("POST", "/graphql", json={"query": EVENTS}, headers=accept) as stream:
            events = _events(stream)
            assert await anext(events) == {"sequence": 1, "kind": "CONTACT_CREATED"}
            for trouble in (another_password, read_only):
                async with trouble(pool, login):
                    await _is_away(api)
                await _is_there_again(api)
            told = [await anext(events) for _ in range(await pool.fetchval("SELECT count(*) - 1 FROM identity_events"))]
        assert [event["sequence"] for event in told] == [*range(2, len(told) + 2)]


async def _events(stream: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in stream.aiter_lines():
        if line.startswith("data: "):
            answer = json.loads(line.removeprefix("data: "))
            assert "errors" not in answer
            yield answer["data"]["identityEvents"]


@pytest.fixture
def hasty(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """No caller waits for long."""
    monkeypatch.setattr("nexus_graph.api.ops.REMEMBERED_SECONDS", 0.0)
    return settings.model_copy(update={"identify_timeout_seconds": 1.0, "connect_timeout_seconds": 1.0})


async def _probes_answer(api: httpx2.AsyncClient) -> list[int]:
    """The statuses of the three routes that operators ask, all at once."""
    answers = await asyncio.gather(*(api.get(path) for path in ("/health", "/readyz", "/metrics")))
    return [answer.status_code for answer in answers]


async def test_identify_is_answered_while_its_writer_hangs(hasty: Settings, pool: Pool) -> None:
    """The process stays stopped until all are answered: only a deadline can end their wait."""
    async with api_of(hasty) as api:
        assert (await api.post("/identify", json=ADA)).status_code == 200
        with stopped(await backends(pool, role="nexus_api", last="%FROM identify%")):
            asked = [api.post("/identify", json={"email": _somebody_new()}) for _ in range(40)]
            answers = await asyncio.gather(*asked)
            assert {answer.status_code for answer in answers} <= {503, 200}
            assert 503 in {answer.status_code for answer in answers}
            # A connection of its own took the place of the one that hung.
            await _is_there_again(api)
            assert (await api.post("/identify", json=ADA)).headers["nexus-outcome"] == "MATCHED"


async def test_everybody_is_answered_while_all_hangs(hasty: Settings, pool: Pool) -> None:
    async with wired(hasty) as (through, wire), api_of(through) as api:
        for _ in range(3):
            assert (await api.post("/identify", json=ADA)).status_code == 200
        wire.hang()
        asked = [api.post("/identify", json={"email": _somebody_new()}) for _ in range(20)]
        asked += [api.post("/identify", json=ADA) for _ in range(20)]
        query = "{contactFamily(by: {contactId: 1}, source: RECORD) {id}}"
        lists = "{contacts(first: 1) {nodes {id}}}"
        reading = [api.post("/graphql", json={"query": text}) for text in (query, lists) for _ in range(10)]
        identified, read, probed = await asyncio.gather(
            asyncio.gather(*asked), asyncio.gather(*reading), _probes_answer(api)
        )
        assert {answer.status_code for answer in identified} == {503}
        assert {answer.headers["retry-after"] for answer in identified} == {"1"}
        assert {answer.json()["errors"][0]["extensions"]["code"] for answer in read} == {"UNAVAILABLE"}
        assert probed == [503, 503, 200]

        wire.flow()
        await _is_there_again(api)
        # Nothing leaked: the pools have their connections, and no other.
        await wire.open_connections(hasty.read_connections + RESOLVE_CONNECTIONS + 1)


async def test_reads_that_hang_are_a_part_and_not_the_whole(hasty: Settings, pool: Pool) -> None:
    async with api_of(hasty) as api:
        assert (await api.post("/identify", json=ADA)).status_code == 200
        lists = [api.post("/graphql", json={"query": "{contacts(first: 1) {nodes {id}}}"}) for _ in range(40)]
        assert {answer.status_code for answer in await asyncio.gather(*lists)} == {200}
        reading = await backends(pool, role="nexus_api", last=sql("contacts_by_time").splitlines()[0] + "%")
        assert len(reading) == hasty.read_connections
        with stopped(reading):
            health = await api.get("/health")
            assert health.json()["status"] == "degraded"
            assert check_of(health, "postgres") == {
                "status": "degraded", "reason": "reads: does not answer in time",
            }  # fmt: skip
            assert (await api.get("/readyz")).status_code == 200
            assert (await api.post("/identify", json=ADA)).status_code == 200
        await _until(api, "/health", 200)
