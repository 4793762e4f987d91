"""Connections that are kept between statements: as good as the pool's own, and given back in the end."""

import asyncio

import pytest

from nexus_graph.config import Settings
from nexus_graph.store.database import CONNECTION_LOST, KeptConnections, Pool, connect_pool
from tests.graphing import PATIENCE_SECONDS

BACKEND = "SELECT pg_backend_pid()"
CONNECTIONS = 2


@pytest.fixture
async def few(settings: Settings) -> Pool:
    return await connect_pool(settings, role=None, size=CONNECTIONS)


async def _backends(kept: KeptConnections, *, callers: int) -> set[int]:
    answers = await asyncio.gather(*[kept.fetch(BACKEND) for _ in range(callers)])
    return {row[0] for rows in answers for row in rows}


async def test_more_callers_than_connections_wait_for_one_another(few: Pool) -> None:
    kept = KeptConnections(few)
    async with asyncio.timeout(PATIENCE_SECONDS), few:
        backends = await _backends(kept, callers=10 * CONNECTIONS)
        assert len(backends) == CONNECTIONS
        assert await _backends(kept, callers=CONNECTIONS) == backends
        await kept.close()


async def test_a_lost_connection_is_replaced_before_it_is_used_again(few: Pool, pool: Pool) -> None:
    kept = KeptConnections(few)
    async with asyncio.timeout(PATIENCE_SECONDS), few:
        lost = await _backends(kept, callers=CONNECTIONS)
        await pool.execute("SELECT pg_terminate_backend(pid, 1000) FROM unnest($1::int[]) AS pid", list(lost))
        assert not lost & await _backends(kept, callers=CONNECTIONS)
        await kept.close()


async def test_connections_lost_under_a_statement_are_replaced(few: Pool, pool: Pool) -> None:
    kept = KeptConnections(few)
    async with asyncio.timeout(PATIENCE_SECONDS), few:
        lost = await _backends(kept, callers=CONNECTIONS)
        sleeping = [asyncio.create_task(kept.fetch("SELECT pg_sleep(60)")) for _ in range(CONNECTIONS)]
        while await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") < CONNECTIONS:
            pass
        await pool.execute("SELECT pg_terminate_backend(pid, 1000) FROM unnest($1::int[]) AS pid", list(lost))
        errors = await asyncio.gather(*sleeping, return_exceptions=True)
        assert all(isinstance(error, CONNECTION_LOST) for error in errors)
        assert len(await _backends(kept, callers=CONNECTIONS) - lost) == CONNECTIONS
        await kept.close()


async def test_a_failed_statement_costs_no_connection(few: Pool) -> None:
    kept = KeptConnections(few)
    async with asyncio.timeout(PATIENCE_SECONDS), few:
        backends = await _backends(kept, callers=CONNECTIONS)
        for _ in range(2 * CONNECTIONS):
            with pytest.raises(Exception, match="division by zero"):
                await kept.fetch("SELECT 1 / 0")
        assert await _backends(kept, callers=CONNECTIONS) == backends
        await kept.close()


async def test_what_was_kept_is_given_back(few: Pool) -> None:
    kept = KeptConnections(few)
    async with asyncio.timeout(PATIENCE_SECONDS), few:
        await _backends(kept, callers=CONNECTIONS)
        assert few.get_idle_size() == 0
        await kept.close()
        assert few.get_idle_size() == CONNECTIONS
