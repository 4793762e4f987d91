"""Migrations: ordered, locked, checksummed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from nexus_graph import statements
from nexus_graph.config import Settings
from nexus_graph.store.migrate import MigrationError, migrate, migrations, pending


@pytest.fixture
async def empty(settings: Settings) -> AsyncIterator[str]:
    """The URL of a database that was never migrated."""
    url = settings.database_url.get_secret_value()
    admin = await asyncpg.connect(url)
    name = f"{await admin.fetchval('SELECT current_database()')}_empty"
    await admin.execute(f'CREATE DATABASE "{name}"')
    head, _, query = url.partition("?")
    yield head.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


async def test_two_migrators_at_once_apply_each_once(empty: str) -> None:
    connections = [await asyncpg.connect(empty) for _ in range(2)]
    assert await pending(connections[0]) == [migration.name for migration in migrations()]
    applied = await asyncio.gather(*(migrate(connection) for connection in connections))
    assert sorted(applied, key=len) == [[], [migration.name for migration in migrations()]]
    assert await pending(connections[0]) == []
    for connection in connections:
        await connection.close()


async def test_an_edited_migration_is_refused(empty: str) -> None:
    connection = await asyncpg.connect(empty)
    await migrate(connection)
    await connection.execute("UPDATE schema_migrations SET checksum = 'other' WHERE number = 2")
    with pytest.raises(MigrationError, match="0002_identify was edited"):
        await migrate(connection)
    await connection.close()


async def test_a_database_ahead_of_this_release_is_refused(empty: str) -> None:
    connection = await asyncpg.connect(empty)
    await migrate(connection)
    await connection.execute("INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'future', 'x')")
    with pytest.raises(MigrationError, match="9999"):
        await migrate(connection)
    await connection.close()


async def test_a_failing_migration_leaves_nothing(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for migration in migrations():
        (tmp_path / f"{migration.name}.sql").write_text(migration.text, encoding="utf-8")
    bad = tmp_path / f"{len(migrations()) + 1:04}_bad.sql"
    bad.write_text("CREATE TABLE half (id int); SELECT 1 / 0;", encoding="utf-8")
    monkeypatch.setattr(statements, "MIGRATIONS", tmp_path)
    connection = await asyncpg.connect(empty)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await pending(connection) == [bad.stem]
    await connection.close()
