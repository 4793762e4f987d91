"""Redis in trouble is no caller's trouble; a connection that was closed while it was idle is no trouble of Redis."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from nexus_graph.cache.documents import SharedDocuments
from nexus_graph.cache.shared import SharedFamilies, open_redis
from nexus_graph.config import Settings
from tests.integration.test_cache import BY_EMAIL, family
from tests.integration.test_persisted import silent_redis
from tests.stage.health import check_of
from tests.stage.running import running_api

ROUNDS = 3
TEXT = "{ __typename }"
DIGEST = sha256(TEXT.encode()).hexdigest()


@pytest.fixture
def lasting(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Where Redis would be left alone, a test would notice; and a busy machine is no trouble."""
    for place in ("shared", "documents"):
        monkeypatch.setattr(f"nexus_graph.cache.{place}.TIMEOUT_SECONDS", 30.0)
        monkeypatch.setattr(f"nexus_graph.cache.{place}.AWAY_SECONDS", 600.0)
    for place in ("app", "api.ops", "store.record"):
        monkeypatch.setattr(f"nexus_graph.{place}.HEALTH_SECONDS", 30.0)
    monkeypatch.setattr("nexus_graph.api.ops.REMEMBERED_SECONDS", 0.0)
    return settings


async def close_idle(settings: Settings) -> None:
    """Every connection to Redis is closed by its server, but for the one that says so."""
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        assert await redis.client_kill_filter(_type="normal", skipme=True) > 0


async def test_families_are_found_and_kept(lasting: Settings) -> None:
    shared = SharedFamilies(lasting)
    for version in range(ROUNDS):
        shared.keep([BY_EMAIL], family(version))
        await shared.written()
        await close_idle(lasting)
        assert await shared.find(BY_EMAIL) == family(version)
        await close_idle(lasting)
        assert not shared.is_away
    await shared.close()


async def test_documents_are_found(lasting: Settings) -> None:
    redis, documents = open_redis(lasting, timeout_seconds=30.0), SharedDocuments()
    await redis.set("nexus:document:" + DIGEST, TEXT)
    for _ in range(ROUNDS):
        assert await documents.find(DIGEST, redis) == TEXT.encode()
        await close_idle(lasting)
    await redis.aclose()


async def test_health_stays_ok(lasting: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_api(lasting) as server, httpx2.AsyncClient(base_url=server.url, timeout=60) as api:
        for _ in range(ROUNDS):
            assert check_of(await api.get("/health"), "redis") == {"status": "ok"}
            await close_idle(lasting)
    assert '"server": "redis"' not in capsys.readouterr().err


Trouble = Callable[[Settings, Redis], AbstractAsyncContextManager[Settings]]


@asynccontextmanager
async def memory_full(settings: Settings, admin: Redis) -> AsyncIterator[Settings]:
    """It takes no writes: OOM."""
    await admin.config_set("maxmemory", 1)
    try:
        yield settings
    finally:
        await admin.config_set("maxmemory", 0)


@asynccontextmanager
async def replica(settings: Settings, admin: Redis) -> AsyncIterator[Settings]:
    """As after a failover: READONLY."""
    await admin.replicaof("127.0.0.1", "9")
    try:
        yield settings
    finally:
        await admin.replicaof("NO", "ONE")


@asynccontextmanager
async def login_refused(settings: Settings, admin: Redis) -> AsyncIterator[Settings]:
    """WRONGPASS."""
    place = settings.redis_url.get_secret_value().rpartition("@")[2]
    yield settings.model_copy(update={"redis_url": SecretStr(f"redis://:wrong@{place}")})


@asynccontextmanager
async def silent(settings: Settings, admin: Redis) -> AsyncIterator[Settings]:
    """It takes what it is asked and answers nothing."""
    async with silent_redis(settings) as (muted, _):
        yield muted


@asynccontextmanager
async def emptied(settings: Settings, admin: Redis) -> AsyncIterator[Settings]:
    """Between any two requests."""
    await admin.flushall()
    yield settings


WRITE = """
    mutation ($phone: PhoneNumber!) {
      identify(input: {email: "ada@example.com", phoneNumber: $phone}) {
        ... on IdentifySuccess { version family { phoneNumbers } }
      }
    }
"""
READ = "query ($by: FamilyLookup!, $seen: BigInt!) { contactFamily(by: $by, atLeast: $seen) { phoneNumbers } }"


@pytest.mark.parametrize("trouble", [memory_full, replica, login_refused, silent, emptied])
async def test_writes_and_reads_are_right_whatever_redis_does(
    settings: Settings, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("shared", "documents"):
        monkeypatch.setattr(f"nexus_graph.cache.{place}.AWAY_SECONDS", 0.01)
    cached = settings.model_copy(update={"cache": "both"})
    async with (
        Redis.from_url(settings.redis_url.get_secret_value()) as admin,
        trouble(cached, admin) as troubled,
        running_api(troubled) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=60) as api,
    ):

        async def ask(query: str, **variables: object) -> dict[str, Any]:
            answer = (await api.post("/graphql", json={"query": query, "variables": variables})).json()
            assert "errors" not in answer
            data: dict[str, Any] = answer["data"]
            return data

        phones = []
        for number in range(4):
            phones.append(f"+1415555010{number}")
            written = (await ask(WRITE, phone=phones[-1]))["identify"]
            assert written["family"]["phoneNumbers"] == phones
            for by in ({"email": "ada@example.com"}, {"phoneNumber": phones[0]}, {"contactId": "1"}):
                for _ in range(2):  # the second may be remembered
                    assert await ask(READ, by=by, seen=written["version"]) == {
                        "contactFamily": {"phoneNumbers": phones}
                    }
                if trouble is emptied:
                    await admin.flushall()
