"""Bring the record's schema up to date: ordered, locked, checksummed, one transaction a file.

A released migration is never edited. A database that has another migration than this release under the same number is
refused before anything is done to it.
"""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass

import asyncpg

from nexus_graph import statements, telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import Code, NexusError
from nexus_graph.statements import sql
from nexus_graph.store.database import CONNECTION_LOST, Connection, away, is_servers_trouble, open_connection
from nexus_graph.store.record import Record

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_LOG = telemetry.log("migrate")


class MigrationError(NexusError):
    """The schema of the database and the migrations of this release do not fit."""

    code = Code.MIGRATION


class OtherMigrations(MigrationError):
    """The database was made by other migrations than those of this release; nothing was done to it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of schema/migrations."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations of this release, in order. Raises MigrationError on a misnamed file or a gap in the numbers."""
    found = []
    for path in sorted(statements.MIGRATIONS.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNNN_what_it_does.sql")
        found.append(Migration(int(match[1]), path.stem, path.read_text(encoding="utf-8")))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migrations must be numbered 1, 2, 3 … without a gap")
    return found


async def migrate(connection: Connection) -> list[str]:
    """Apply what is missing; the names applied. Two processes at once: the second waits, then finds nothing to do.

    Raises OtherMigrations if those that landed are not of this release, or if the database is ahead of it.
    """
    await connection.execute(sql("migrations_lock"))
    try:
        await connection.execute(sql("migrations_table"))
        known = migrations()
        landed = await _landed(connection, known)
        if max(landed, default=0) > len(known):
            raise OtherMigrations(f"the database has migration {max(landed)}; this release knows {len(known)}")
        applied = []
        for migration in known:
            if migration.number not in landed:
                async with connection.transaction():
                    await connection.execute(migration.text)
                    await connection.execute(
                        sql("migrations_record"), migration.number, migration.name, migration.checksum
                    )
                _LOG.info("migration_applied", name=migration.name)
                applied.append(migration.name)
        return applied
    finally:
        # The lock is the session's: it goes with a connection that is lost.
        with suppress(*CONNECTION_LOST):
            await connection.execute(sql("migrations_unlock"))


async def pending(connection: "Connection | Record") -> list[str]:
    """Names of the migrations that this database still lacks. Raises OtherMigrations if it has others than these."""
    ((exist,),) = await connection.fetch(sql("migrations_exist"))
    known = migrations()
    landed = await _landed(connection, known) if exist else set()
    return [migration.name for migration in known if migration.number not in landed]


async def migrate_database(settings: Settings) -> list[str]:
    """`migrate` on a connection of its own, as the login that owns the schema. Raises Unavailable, MigrationError."""
    async with open_connection(settings) as connection:
        try:
            return await migrate(connection)
        except Exception as error:
            if is_servers_trouble(error):
                raise away(settings, "direct", error) from error
            if not isinstance(error, asyncpg.PostgresError):
                raise
            said = telemetry.error_name(error)
            raise MigrationError(f"a migration failed ({said}); nothing of it was kept") from error


async def _landed(connection: "Connection | Record", known: list[Migration]) -> set[int]:
    """The numbers of the migrations that this database has, all of this release."""
    names = {migration.number: migration.name for migration in known}
    checksums = {migration.number: migration.checksum for migration in known}
    rows = await connection.fetch(sql("migrations_landed"))
    for number, name, checksum in rows:
        if name != names.get(number, name):
            raise OtherMigrations(
                f"the database was made by other migrations: its number {number} is {name}, and {names[number]} here. "
                "Nothing was changed; make a new database and import the contacts"
            )
        if checksum != checksums.get(number, checksum):
            raise OtherMigrations(f"{name} was edited after it landed here; nothing was changed")
    return {number for number, _, _ in rows}
