"""Passwords are rotated while the API runs: PostgreSQL's, Redis's and Neo4j's."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from neo4j import AsyncDriver
from neo4j.exceptions import AuthError
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from nexus_graph.cache.shared import open_redis
from nexus_graph.config import Settings
from nexus_graph.graph.driver import open_driver
from nexus_graph.store.database import Pool
from tests.stage.running import running_api

FIRST, SECOND = "first-of-rotation", "second-of-rotation"
LOGIN = "rotated"
ENDED = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'rotated'"


def as_login(url: str, password: str) -> str:
    """The same server for the login whose password is rotated."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{LOGIN}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


async def test_a_password_of_postgresql_is_rotated_without_a_restart(
    settings: Settings, pool: Pool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "database_url"
    url = settings.database_url.get_secret_value()
    file.write_text(as_login(url, FIRST), encoding="utf-8")
    given = settings.model_copy(update={"database_url_file": file})
    await pool.execute(f"CREATE ROLE {LOGIN} LOGIN SUPERUSER PASSWORD '{FIRST}'")
    try:
        async with running_api(given) as server, httpx2.AsyncClient(base_url=server.url, timeout=20) as client:
            body = {"email": "ada@example.com"}
            assert (await client.post("/identify", json=body)).status_code == 200
            await pool.execute(f"ALTER ROLE {LOGIN} PASSWORD '{SECOND}'")
            assert await pool.fetchval(ENDED) > 0
            assert (await client.post("/identify", json=body)).status_code == 503  # the file has the former password
            file.write_text(as_login(url, SECOND) + "\n", encoding="utf-8")
            async with asyncio.timeout(20):
                while (await client.post("/identify", json=body)).status_code != 200:
                    pass
    finally:
        await pool.execute(ENDED)
        await pool.execute(f"DROP ROLE {LOGIN}")
    told = capfd.readouterr().err
    assert FIRST not in told
    assert SECOND not in told


async def test_a_password_of_redis_is_rotated_without_a_restart(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "redis_url"
    url = settings.redis_url.get_secret_value()
    file.write_text(as_login(url, FIRST), encoding="utf-8")
    admin: Any = Redis.from_url(url)
    client: Any = open_redis(settings.model_copy(update={"redis_url_file": file}), timeout_seconds=5)
    try:
        await admin.execute_command("ACL", "SETUSER", LOGIN, "on", "resetpass", f">{FIRST}", "~*", "+@all")
        assert await client.ping()
        assert await client.execute_command("ACL", "WHOAMI") == LOGIN.encode()
        await admin.execute_command("ACL", "SETUSER", LOGIN, "resetpass", f">{SECOND}")
        assert await client.ping(), "open connections go on"
        await admin.execute_command("CLIENT", "KILL", "USER", LOGIN)
        with pytest.raises(AuthenticationError):
            await client.ping()
        file.write_text(as_login(url, SECOND), encoding="utf-8")
        assert await client.ping()
    finally:
        await client.aclose()
        await admin.execute_command("ACL", "DELUSER", LOGIN)
        await admin.aclose()


async def test_a_password_of_neo4j_is_rotated_without_a_restart(
    settings: Settings, driver: AsyncDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.graph.driver.PASSWORD_SECONDS", 0.0)
    file = tmp_path / "neo4j_password"
    file.write_text(FIRST, encoding="utf-8")
    given = settings.model_copy(update={"neo4j_user": LOGIN, "neo4j_password_file": file})
    await driver.execute_query(f"CREATE USER {LOGIN} SET PASSWORD '{FIRST}' CHANGE NOT REQUIRED")
    rotating, other = open_driver(given), open_driver(given)
    try:
        assert (await rotating.execute_query("RETURN 1")).records[0].value() == 1
        await driver.execute_query(f"ALTER USER {LOGIN} SET PASSWORD '{SECOND}'")
        with pytest.raises(AuthError):  # a new connection, and the file has the former password
            await other.execute_query("RETURN 1")
        file.write_text(f"{SECOND}\n", encoding="utf-8")
        for each in (rotating, other):
            assert (await each.execute_query("RETURN 1")).records[0].value() == 1
    finally:
        await rotating.close()
        await other.close()
        await driver.execute_query(f"DROP USER {LOGIN}")
