"""The API behind pgbouncer in transaction mode: each statement may run in another session than the last."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr

from nexus_graph.config import Settings
from nexus_graph.devstack.stack import StackUrls
from nexus_graph.identity.opening import open_identity
from nexus_graph.model import FamilyKey, IdentifyRequest, Source
from nexus_graph.store.database import Pool, UnfitLogin, connect_pool
from nexus_graph.store.migrate import migrate_database
from tests.property.fleet import CALLS, fleet, record_history
from tests.property.history import final_state_violations, violations
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.pooler import FIT, PASSWORD, SESSIONS, UNFIT, Pooler, running_pooler
from tests.stage.running import running_api, running_relay

SERVERS = 4
TURNS = 10
END_A_SESSION = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = $1 ORDER BY state = 'active' DESC LIMIT 1
"""


@pytest.fixture(scope="module")
async def pooler(template: StackUrls, project: Path) -> AsyncIterator[Pooler]:
    admin = await asyncpg.connect(template.database_url)
    await admin.execute((project / "deploy/pgbouncer/login.sql").read_text(encoding="utf-8"))
    await admin.execute(f"ALTER ROLE {FIT} PASSWORD '{PASSWORD}'")
    await admin.execute(f"CREATE ROLE {UNFIT} LOGIN PASSWORD '{PASSWORD}' IN ROLE nexus_api")
    await admin.close()
    async with running_pooler(template.database_url) as pooler:
        yield pooler


@pytest.fixture
def pooled(settings: Settings, pooler: Pooler) -> Settings:
    """Settings that lead through pgbouncer, and past it for what needs a session of its own."""
    return through(pooler, settings)


@pytest.fixture
def seed() -> int:
    """A new history each run; NEXUS_TEST_SEED repeats one."""
    return int(os.environ.get("NEXUS_TEST_SEED") or random.SystemRandom().randrange(2**32))


def through(pooler: Pooler, settings: Settings, *, login: str = FIT) -> Settings:
    database = urlsplit(settings.database_url.get_secret_value()).path.lstrip("/")
    return settings.model_copy(
        update={
            "database_url": SecretStr(pooler.url(database, login=login)),
            "database_direct_url": settings.database_url,
            "pgbouncer": True,
        }
    )


async def sessions(pool: Pool) -> list[int]:
    """The sessions that pgbouncer holds of this database."""
    rows = await pool.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = $1", FIT)
    return [row["pid"] for row in rows]


@pytest.mark.parametrize("keys", [20, 3_000])
async def test_identify_is_linearizable(pooled: Settings, pool: Pool, keys: int, seed: int) -> None:
    print(f"NEXUS_TEST_SEED={seed} keys={keys}")
    async with fleet(pooled, SERVERS) as servers:
        history = await record_history(servers, keys=keys, seed=seed, graphql=True)
        assert len(await sessions(pool)) == SESSIONS
    assert len(history) == CALLS
    assert violations(history) == []
    assert await final_state_violations(pool, history) == []


async def test_sessions_may_end_under_way(pooled: Settings, pool: Pool, seed: int) -> None:
    print(f"NEXUS_TEST_SEED={seed}")

    async def end_sessions() -> None:
        for turn in range(TURNS):
            while await pool.fetchval("SELECT count(*) FROM contacts") < turn * 100:
                pass
            assert await pool.fetchval(END_A_SESSION, FIT)

    async with fleet(pooled, SERVERS) as servers, asyncio.TaskGroup() as group:
        group.create_task(end_sessions())
        history = await record_history(servers, keys=3_000, seed=seed)
    # What was under way was sent again: each call was answered, and none had its effect twice.
    assert len(history) == CALLS
    assert violations(history) == []
    assert await final_state_violations(pool, history) == []


async def test_readers_relay_and_followers(pooled: Settings, pool: Pool) -> None:
    ada = FamilyKey("email", "ada@example.com")
    async with asyncio.timeout(PATIENCE_SECONDS), running_relay(pooled) as relay, open_identity(pooled) as identity:
        events = identity.feed.events(0)
        family = (await identity.identify(IdentifyRequest("ada@example.com", "123456"))).family
        assert [event.sequence for event in await anext(events)] == [family.version]
        linked = (await identity.identify(IdentifyRequest("ada.l@example.com", "123456"))).family
        assert [event.sequence for event in await anext(events)] == [linked.version]
        await events.aclose()
        assert await identity.families.family(ada, source=Source.RECORD) == linked
        await relay.drained()
        by_graph = await identity.families.family(ada, at_least=linked.version)
        assert by_graph is not None
        assert (by_graph.source, by_graph.contacts) == (Source.GRAPH, linked.contacts)


async def test_it_heals_after_pgbouncer_was_away(pooled: Settings, pooler: Pooler) -> None:
    async with running_api(pooled) as server, httpx2.AsyncClient(base_url=server.url, timeout=20) as api:
        ada = {"email": "ada@example.com"}
        answer = (await api.post("/identify", json=ada)).json()
        await pooler.process.stop()
        assert (await api.post("/identify", json=ada)).status_code == 503
        await pooler.process.start()
        response = await api.post("/identify", json=ada)
        assert (response.status_code, response.json()) == (200, answer)


async def test_its_sessions_may_do_what_the_api_may_and_no_more(pooled: Settings) -> None:
    pool = await connect_pool(pooled, role="nexus_api", size=1)
    try:
        assert await pool.fetchval("SELECT current_user::text") == "nexus_api"
        assert await pool.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("DELETE FROM contacts")
    finally:
        await pool.close()


async def test_a_login_that_brings_no_settings_is_refused(settings: Settings, pooler: Pooler) -> None:
    unfit = through(pooler, settings, login=UNFIT)
    with pytest.raises(UnfitLogin, match=r"lock_timeout is 0, not 5000.* role is nexus_unfit, not nexus_api"):
        await connect_pool(unfit, role="nexus_api", size=1)


async def test_settings_that_differ_from_the_logins_are_refused(
    pooled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.store.database.LOCK_TIMEOUT_SECONDS", 1.0)
    with pytest.raises(UnfitLogin, match=r"does not: lock_timeout is 5000, not 1000$"):
        await connect_pool(pooled, role="nexus_api", size=1)


async def test_migrations_go_past_it(pooled: Settings, pool: Pool) -> None:
    nobody = pooled.model_copy(update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:9/nowhere")})
    assert await migrate_database(nobody) == []
