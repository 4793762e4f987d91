"""Migrations: ordered, locked, checksummed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from nexus_graph import statements
from nexus_graph.config import Settings
from nexus_graph.statements import sql
from nexus_graph.store.migrate import MigrationError, OtherMigrations, migrate, migrations, pending


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
    with pytest.raises(OtherMigrations, match="0002_lookups was edited"):
        await migrate(connection)
    await connection.close()


async def test_a_database_of_other_migrations_is_refused_untouched(empty: str) -> None:
    """Names and numbers as a schema of before this baseline has them: fewer than there are now, or more."""
    former = ["contacts", "identify", "soft_delete", "roles", "first_statistics", "first_notice", "listing", "swiftly"]
    former += ["later"] * len(migrations())
    connection = await asyncpg.connect(empty)
    await connection.execute(sql("migrations_table"))
    await connection.execute("CREATE TABLE contacts (id bigint PRIMARY KEY); INSERT INTO contacts VALUES (1)")
    for landed in (former[:1], former):
        await connection.execute("TRUNCATE schema_migrations")
        for number, name in enumerate(landed, 1):
            await connection.execute(sql("migrations_record"), number, f"{number:04}_{name}", "checksum")
        before = await connection.fetch("SELECT relname FROM pg_class ORDER BY relname")
        for act in (migrate, pending):
            with pytest.raises(OtherMigrations, match="0001_contacts, and 0001_record here"):
                await act(connection)
        assert await connection.fetch("SELECT relname FROM pg_class ORDER BY relname") == before
        assert await connection.fetchval("SELECT count(*) FROM contacts") == 1
    await connection.close()


@pytest.mark.parametrize("table", ["contacts", "evidence", "identity_events", "outbox", "aliases"])
async def test_first_statistics_leave_a_record_with_a_single_row_alone(empty: str, table: str) -> None:
    row = {
        "contacts": "(id, email, link_precedence) OVERRIDING SYSTEM VALUE VALUES (77, 'a@x.example', 'primary')",
        "evidence": "(email, phone_number, family_id, seen_at) VALUES ('a@x.example', '1', 1, now())",
        "identity_events": "(seq, at, kind, family_id) VALUES (1, now(), 'contact_created', 1)",
        "outbox": "(seq, family_id, queued_at) VALUES (1, 1, now())",
        "aliases": "(family_id, survivor_id, version) VALUES (1, 2, 3)",
    }[table]
    connection = await asyncpg.connect(empty)
    await connection.execute(sql("migrations_table"))
    (number,) = [migration.number for migration in migrations() if "first_statistics" in migration.name]
    *earlier, last = migrations()[:number]
    for migration in earlier:
        await connection.execute(migration.text)
    await connection.execute(f"INSERT INTO {table} {row}; SELECT nextval('contacts_id_seq'), nextval('change_seq')")
    held = f"SELECT (SELECT array_agg(t) FROM {table} AS t)::text, (SELECT last_value FROM contacts_id_seq)"
    before = await connection.fetchrow(held)
    await connection.execute(last.text)
    assert await connection.fetchrow(held) == before
    assert await connection.fetchval("SELECT count(*) FROM contacts") == (table == "contacts")
    await connection.close()


async def test_first_statistics_leave_nothing_else(empty: str) -> None:
    connection = await asyncpg.connect(empty)
    await migrate(connection)
    assert await connection.fetchval("SELECT count(*) FROM pg_stats WHERE tablename = 'contacts'") > 0
    assert await connection.fetchval("SELECT count(*) FROM contacts") == 0
    made = "INSERT INTO contacts (email, link_precedence) VALUES ('a@x.example', 'primary') RETURNING id"
    assert await connection.fetchval(made) == 1
    assert await connection.fetchval("SELECT nextval('change_seq')") == 1
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
