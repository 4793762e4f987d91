"""The audit trail as tests write, read and tamper with it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nexus_graph.commands import audit as commands
from nexus_graph.config import Settings
from nexus_graph.door.audit import Audit, Entry, Outcome, What, append, now
from nexus_graph.door.audit_chain import Head
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool

KEY = "key:0123456789ab"

Found = list[tuple[str, int, int]]


def entry(number: int = 1, *, who: str = KEY) -> Entry:
    """One that says its number."""
    return Entry(who, What.IDENTIFY, Outcome.CHANGED, f"{number:032x}", (number, number + 1), now(), None, number)


@asynccontextmanager
async def auditing(settings: Settings) -> AsyncIterator[Audit]:
    """An appender at work, closed at the end."""
    audit = Audit(settings)
    await audit.start()
    try:
        yield audit
    finally:
        await audit.close()


async def stored(pool: Pool, count: int, *, first: int = 1, batch: int = 5) -> None:
    """Store so many entries, in batches."""
    for start in range(first, first + count, batch):
        async with pool.acquire() as connection:
            await append(connection, [entry(number) for number in range(start, min(start + batch, first + count))])


async def tampered(pool: Pool, statement: str) -> None:
    """Run statements as an owner whom no trigger stops."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(statement)


async def table_of_month(pool: Pool) -> str:
    """The name of the table that holds the newest entry."""
    name: str = await pool.fetchval("SELECT tableoid::regclass::text FROM audit_log ORDER BY seq DESC LIMIT 1")
    return name


async def head_at(pool: Pool, seq: int | None = None) -> Head:
    """The chain up to this entry; None: to its end."""
    if seq is None:
        (row,) = await pool.fetch(sql("audit_head"))
    else:
        (row,) = await pool.fetch("SELECT seq, hash FROM audit_log WHERE seq = $1", seq)
    return Head(*row)


class Clock:
    """The clock of the record's server, as `audit_append` reads it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def stage(self) -> None:
        await self._pool.execute(
            """
            CREATE SCHEMA staged;
            CREATE TABLE staged.clock (moment timestamptz);
            INSERT INTO staged.clock VALUES (now());
            CREATE FUNCTION staged.clock_timestamp() RETURNS timestamptz
            LANGUAGE sql AS 'SELECT moment FROM staged.clock';
            GRANT USAGE ON SCHEMA staged TO nexus_api;
            ALTER FUNCTION audit_append SET search_path = public, staged, pg_catalog, pg_temp;
            -- The head as it was then: the chain began before all that is staged.
            SET session_replication_role = replica;
            UPDATE audit_head SET stored_at = '2000-01-01';
            RESET session_replication_role;
            """
        )

    async def shows(self, moment: datetime) -> None:
        await self._pool.execute("UPDATE staged.clock SET moment = $1", moment)

    async def end(self) -> None:
        await self._pool.execute("ALTER FUNCTION audit_append SET search_path = public, pg_temp")


async def verified(
    settings: Settings, capsys: pytest.CaptureFixture[str], *, head_file: Path | None = None
) -> tuple[Found, dict[str, Any]]:
    """What `audit verify` finds, and its whole answer. Its exit code agrees."""
    capsys.readouterr()
    code = await commands.verify(settings, head_file=head_file, as_json=True)
    printed, said = capsys.readouterr()
    assert said == ""
    answer = json.loads(printed)
    assert code == (1 if answer["faults"] else 0)
    return [(found["fault"], found["first"], found["last"]) for found in answer["findings"]], answer
