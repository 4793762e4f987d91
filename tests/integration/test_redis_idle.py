"""Connections that Redis, or a proxy before it, closed while they were idle: that is not Redis in trouble."""

from hashlib import sha256

import httpx2
import pytest
from redis.asyncio import Redis

from nexus_graph.cache.documents import SharedDocuments
from nexus_graph.cache.server import open_redis
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.config import Settings
from tests.integration.test_cache import BY_EMAIL, family
from tests.running import running_api

ROUNDS = 3
TEXT = "{ __typename }"
DIGEST = sha256(TEXT.encode()).hexdigest()


@pytest.fixture
def lasting(settings: Settings) -> Settings:
    """Where Redis would be left alone, a test would notice; and a busy machine is no trouble."""
    patience = {
        "cache_timeout_seconds": 30.0,
        "graphql_persisted_timeout_seconds": 30.0,
        "health_timeout_seconds": 30.0,
    }
    return settings.model_copy(update={"cache_away_seconds": 600.0, "health_remembered_seconds": 0.0, **patience})


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
    redis, documents = open_redis(lasting, timeout_seconds=30.0), SharedDocuments(lasting)
    await redis.set("nexus:document:" + DIGEST, TEXT)
    for _ in range(ROUNDS):
        assert await documents.find(DIGEST, redis) == TEXT.encode()
        await close_idle(lasting)
    await redis.aclose()


async def test_health_stays_ok(lasting: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_api(lasting) as server, httpx2.AsyncClient(base_url=server.url, timeout=60) as api:
        for _ in range(ROUNDS):
            assert (await api.get("/health")).json()["checks"]["redis"] == {"status": "ok"}
            await close_idle(lasting)
    assert '"server": "redis"' not in capsys.readouterr().err
