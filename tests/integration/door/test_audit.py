"""The appender of the audit trail: one chain whoever appends, nothing lost unseen, nobody who can change it."""

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from nexus_graph.config import Settings
from nexus_graph.door import audit as auditing_module
from nexus_graph.door.audit import Audit, Entry, Outcome, What, append, now
from nexus_graph.door.audit_chain import read_head
from nexus_graph.errors import Overloaded, Unavailable
from nexus_graph.store.database import Pool, PoolConnection
from tests.stage.auditing import auditing, entry, head_at, stored, table_of_month, verified

Source: TypeAlias = "PoolConnection | Pool"
Capsys = pytest.CaptureFixture[str]

PROCESS = """
import asyncio
from nexus_graph.config import Settings
from nexus_graph.door.audit import Audit
from tests.stage.auditing import entry

async def main():
    audit = Audit(Settings())
    await audit.start()
    number = 0
    while True:
        for _ in range(50):
            number += 1
            audit.record(entry(number))
        await asyncio.sleep(0.01)

asyncio.run(main())
"""
"""A process that is audited without pause."""


@pytest.fixture
def quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Short pauses, small batches, and room for twenty entries."""
    monkeypatch.setattr(auditing_module, "WRITE_SECONDS", 0.005)
    monkeypatch.setattr(auditing_module, "AWAY_SECONDS", 0.02)
    monkeypatch.setattr(auditing_module, "BATCH_MAX_ENTRIES", 7)
    return settings.model_copy(update={"audit_queue_max_entries": 20})


@asynccontextmanager
async def away(pool: Pool, settings: Settings) -> AsyncIterator[Source]:
    """The database takes no connections, and the appender has none. The connection that is left."""
    elsewhere = await asyncpg.connect(settings.database_url.get_secret_value(), database="postgres")
    async with pool.acquire() as left:
        database = await left.fetchval("SELECT current_database()")
        await elsewhere.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        await elsewhere.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = $1 AND application_name = 'nexus_api'",
            database,
        )
        try:
            yield left
        finally:
            await elsewhere.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
            await elsewhere.close()


async def _until_stored(pool: Pool, count: int) -> None:
    async with asyncio.timeout(20):
        while await pool.fetchval("SELECT count(*) FROM audit_log") < count:
            pass


async def _until(audit: Audit, source: Source, *, away: bool) -> None:
    async with asyncio.timeout(20):
        while audit._away is not away:
            await source.fetchval("SELECT pg_sleep(0.01)")


async def _numbers(pool: Pool, who: str = "key:%") -> list[int]:
    """What the entries of callers say, in the order of the trail."""
    return [row[0] for row in await pool.fetch("SELECT amount FROM audit_log WHERE who LIKE $1 ORDER BY seq", who)]


async def test_four_processes_append_to_one_chain(
    quick: Settings, pool: Pool, capsys: Capsys, rng: random.Random, tmp_path: Path
) -> None:
    """They keep one head file, and each keeps its own order."""
    roomy = quick.model_copy(update={"audit_queue_max_entries": 1_000, "audit_head_file": tmp_path / "head"})

    async def work(who: str) -> None:
        async with auditing(roomy) as audit:
            for number in range(300):
                audit.record(entry(number, who=who))
                if rng.random() < 0.2:
                    await asyncio.sleep(0.001)

    names = [f"key:{number:012x}" for number in range(4)]
    await asyncio.gather(*map(work, names))
    found, answer = await verified(roomy, capsys)
    assert (found, answer["entries"]) == ([], 4 * (300 + 2))
    for name in names:
        assert await _numbers(pool, name) == list(range(300))
    assert read_head(tmp_path / "head") == await head_at(pool)
    whats = [row[0] for row in await pool.fetch("SELECT what FROM audit_log WHERE who = 'system' ORDER BY seq")]
    assert sorted(whats) == ["audit-start"] * 4 + ["audit-stop"] * 4


async def test_processes_that_are_killed_leave_a_whole_chain(
    settings: Settings, pool: Pool, project: Path, capsys: Capsys, rng: random.Random
) -> None:
    environment = os.environ | {"DATABASE_URL": settings.database_url.get_secret_value(), "PYTHONPATH": str(project)}
    for _ in range(3):
        before = await pool.fetchval("SELECT count(*) FROM audit_log")
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROCESS, cwd=project, env=environment, stderr=PIPE
            )
            for _ in range(2)
        ]
        await _until_stored(pool, before + 500)
        await asyncio.sleep(rng.random() * 0.05)
        for process in processes:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert (await verified(settings, capsys))[0] == []
    await stored(pool, 5)
    assert (await verified(settings, capsys))[0] == []
    whats = {row[0] for row in await pool.fetch("SELECT what FROM audit_log WHERE who = 'system'")}
    assert whats <= {"audit-start", "audit-lost"}, "no process ended in order"


async def test_a_batch_whose_answer_was_lost_is_stored_once(settings: Settings, pool: Pool) -> None:
    audit = Audit(settings)
    audit._batches = 1
    batch = [entry(number) for number in range(3)]
    assert await audit._sent(batch) == await audit._sent(batch)
    assert await _numbers(pool) == [0, 1, 2]
    audit._batches = 2
    await audit._sent(batch)
    assert await _numbers(pool) == [0, 1, 2] * 2
    await audit._closing.aclose()


async def test_a_full_queue_drops_counts_and_tells(quick: Settings, pool: Pool, capsys: Capsys) -> None:
    audit = Audit(quick)
    for number in range(25):
        audit.record(entry(number))
    await audit.start()
    await audit.close()
    assert await _numbers(pool) == list(range(20))
    (lost,) = await pool.fetch("SELECT who, outcome, amount FROM audit_log WHERE what = 'audit-lost'")
    assert tuple(lost) == ("system", "changed", 5)
    assert (await verified(quick, capsys))[0] == []


async def test_a_full_queue_refuses_where_strict(quick: Settings, pool: Pool) -> None:
    audit = Audit(quick.model_copy(update={"audit": "strict"}))
    for number in range(20):
        audit.check_room()
        audit.record(entry(number))
    with pytest.raises(Overloaded):
        audit.check_room()
    with pytest.raises(Overloaded):
        audit.record(entry(20))
    await audit.start()
    await _until_stored(pool, 21)
    audit.record(entry(20))
    await audit.close()
    assert await _numbers(pool) == list(range(21))
    with pytest.raises(Overloaded):
        audit.record(entry(21))


async def test_strangers_leave_half_of_the_queue_to_others_where_strict(quick: Settings, pool: Pool) -> None:
    audit = Audit(quick.model_copy(update={"audit": "strict"}))
    for number in range(10):
        audit.record_stranger(entry(number, who="anonymous"))
    with pytest.raises(Overloaded):
        audit.record_stranger(entry(10, who="anonymous"))
    for number in range(10, 20):
        audit.check_room()
        audit.record(entry(number))
    await audit.start()
    await _until_stored(pool, 21)
    audit.record_stranger(entry(20, who="anonymous"))
    await audit.close()
    assert await _numbers(pool, "anonymous") == [*range(10), 20]
    assert await _numbers(pool) == list(range(10, 20))


async def test_strangers_are_audited_by_the_whole_queue_where_not_strict(quick: Settings, pool: Pool) -> None:
    async with auditing(quick) as audit:
        for number in range(19):
            audit.record_stranger(entry(number, who="anonymous"))
    assert await _numbers(pool, "anonymous") == list(range(19))


async def test_off_keeps_nothing(quick: Settings, pool: Pool) -> None:
    async with auditing(quick.model_copy(update={"audit": "off"})) as audit:
        for number in range(30):
            audit.check_room()
            audit.record(entry(number))
        assert audit._waiting == []
    assert await pool.fetchval("SELECT count(*) FROM audit_log") == 0


async def test_the_record_goes_away_and_comes_back(quick: Settings, pool: Pool, capsys: Capsys) -> None:
    """What fits is stored later, once; what does not is counted in the trail. Before and after, nothing is lost."""
    async with auditing(quick) as audit:
        for number in range(5):
            audit.record(entry(number))
        await _until_stored(pool, 6)
        async with away(pool, quick) as left:
            audit.record(entry(5))
            await _until(audit, left, away=True)
            for number in range(6, 56):
                audit.record(entry(number))
        await _until(audit, pool, away=False)
        await _until_stored(pool, 1 + 5 + 20 + 1)
        audit.record(entry(56))
    numbers = await _numbers(pool)
    lost = await pool.fetchval("SELECT sum(amount) FROM audit_log WHERE what = 'audit-lost'")
    assert numbers == [*range(25), 56]
    assert lost == 57 - len(numbers)
    assert (await verified(quick, capsys))[0] == []


async def test_while_the_record_is_away_strict_answers_nobody(quick: Settings, pool: Pool, capsys: Capsys) -> None:
    strict = quick.model_copy(update={"audit": "strict"})
    async with auditing(strict) as audit:
        audit.record(entry(0))
        await _until_stored(pool, 2)
        async with away(pool, quick) as left:
            audit.record(entry(1))  # not yet known to be away: stored later
            await _until(audit, left, away=True)
            for _ in range(2):
                with pytest.raises(Unavailable):
                    audit.check_room()
                with pytest.raises(Unavailable):
                    audit.record(entry(2))
            with pytest.raises(Unavailable):
                await Audit(strict).start()
        await _until(audit, pool, away=False)
        audit.record(entry(3))
    assert await _numbers(pool) == [0, 1, 3]
    assert (await verified(strict, capsys))[0] == []


async def test_a_process_that_stops_while_the_record_is_away_ends_in_time(
    quick: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    monkeypatch.setattr(auditing_module, "CLOSE_SECONDS", 0.2)
    audit = Audit(quick)
    await audit.start()
    await _until_stored(pool, 1)
    async with away(pool, quick) as left:
        audit.record(entry(1))
        await _until(audit, left, away=True)
        async with asyncio.timeout(10):
            await audit.close()
    assert '"event": "audit_lost"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"who": "ada@example.com"},
        {"who": "+15550123456"},
        {"who": "key:0123456789AB"},
        {"what": "+15550123456"},
        {"what": "ada@example.com"},
        {"outcome": "15550123456"},
        {"outcome": "ada@example.com"},
        {"subject": "ada@example.com"},
        {"subject": "key:15550123456"},
        {"request_id": "ada@example.com"},
        {"request_id": "+15550123456"},
        {"family_ids": ("ada@example.com",)},
        {"amount": "ada@example.com"},
        {"who": "\udcff"},
        {"family_ids": (2**63,)},
    ],
)
async def test_no_identifier_gets_in_and_the_others_of_its_batch_do(
    quick: Settings, pool: Pool, change: dict[str, str], capsys: Capsys
) -> None:
    wrong = entry(2)._replace(**change)  # type: ignore[arg-type]
    async with pool.acquire() as connection:
        with pytest.raises((asyncpg.PostgresError, asyncpg.DataError, UnicodeError)):
            await append(connection, [wrong])
    async with auditing(quick) as audit:
        for each in (entry(1), wrong, entry(3)):
            audit.record(each)
    assert await _numbers(pool) == [1, 3]
    assert await pool.fetchval("SELECT amount FROM audit_log WHERE what = 'audit-lost'") == 1
    dump = str(await pool.fetch("SELECT * FROM audit_log"))
    assert "ada@" not in dump
    assert "15550123456" not in dump.replace("-", "")
    assert (await verified(quick, capsys))[0] == []


async def test_every_kind_of_entry_is_taken(settings: Settings, pool: Pool, capsys: Capsys) -> None:
    names = ["anonymous", "system", "command", f"key:{'0' * 12}", f"user:{'f' * 32}"]
    async with pool.acquire() as connection:
        await append(
            connection,
            [
                Entry(names[index % 5], what, outcome, None, tuple(range(index % 3)), now(), names[3 + index % 2])
                for index, (what, outcome) in enumerate((what, outcome) for what in What for outcome in Outcome)
            ],
        )
    assert await pool.fetchval("SELECT count(DISTINCT (what, outcome)) FROM audit_log") == len(What) * len(Outcome)
    assert (await verified(settings, capsys))[0] == []


async def test_a_moment_is_kept_to_the_microsecond_and_never_past_its_storage(pool: Pool) -> None:
    moment = now()
    async with pool.acquire() as connection:
        await append(connection, [entry()._replace(at=at) for at in (moment, moment - 1, moment + 3_600_000_000)])
    ats = await pool.fetch("SELECT (extract(epoch FROM at) * 1000000)::bigint, at = stored_at FROM audit_log")
    assert [row[0] for row in ats[:2]] == [moment, moment - 1]
    assert ats[2][1]


CHANGES = (
    "UPDATE {table} SET {column} = {column}",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "DROP TABLE {table}",
    "SELECT FROM {table}",
    "INSERT INTO {table} SELECT * FROM {table}",
)


@pytest.mark.parametrize("role", ["nexus_api", "nexus_relay", "nexus_import"])
async def test_a_process_can_append_and_nothing_else(settings: Settings, pool: Pool, role: str) -> None:
    await stored(pool, 3)
    month = await table_of_month(pool)
    before = [await pool.fetch(f"SELECT * FROM {table}") for table in (month, "audit_head", "audit_stubs")]
    async with pool.acquire() as connection:
        await connection.execute(f"SET role = {role}")
        tables = {"audit_log": "who", month: "who", "audit_head": "seq", "audit_stubs": "seq", "audit_writers": "batch"}
        for table, column in tables.items():
            for change in CHANGES:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(change.format(table=table, column=column))
        for call in ("audit_make_month(now()::timestamp)", "audit_retain(now()::timestamp, 3, '')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SELECT {call}")
        assert [await pool.fetch(f"SELECT * FROM {table}") for table in (month, "audit_head", "audit_stubs")] == before
        assert (await append(connection, [entry()])).seq == 4
        await connection.execute("RESET role")


async def test_the_owner_changes_nothing_by_mistake(pool: Pool) -> None:
    await stored(pool, 3)
    month = await table_of_month(pool)
    for table in ("audit_log", month, "audit_stubs", "audit_head"):
        for change in (f"DELETE FROM {table}", f"TRUNCATE {table}", f"UPDATE {table} SET seq = seq"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only"):
                await pool.execute(change)
    assert await _numbers(pool) == [1, 2, 3]


async def test_identify_does_not_wait_for_the_trail(settings: Settings, pool: Pool) -> None:
    """Whoever holds the chain's head holds up other batches of entries, and no writer of contacts."""
    async with pool.acquire() as holding, holding.transaction(), pool.acquire() as writing:
        await append(holding, [entry()])
        await writing.execute("SET lock_timeout = '2s'")
        rows = await writing.fetch(
            "SELECT outcome FROM identify_together($1, $2, $3, 1000, 3)", ["a@x.example"], [None], [None]
        )
        assert [row[0] for row in rows] == ["CREATED"]
        await writing.execute("SET lock_timeout = '50ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await append(writing, [entry()])


async def test_the_head_file_follows_the_trail(
    quick: Settings, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another entry, and not at every batch: a write waits for a disk."""
    monkeypatch.setattr(auditing_module, "KEEP_SECONDS", 0.05)
    path = tmp_path / "head"
    async with auditing(quick.model_copy(update={"audit_head_file": path})) as audit:
        for number in range(20):
            audit.record(entry(number))
        await _until_stored(pool, 21)
        head = await head_at(pool)
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(path.exists) or read_head(path) != head:
                await pool.fetchval("SELECT pg_sleep(0.01)")


async def test_a_head_file_that_cannot_be_written_stops_nothing(
    quick: Settings, pool: Pool, tmp_path: Path, capsys: Capsys
) -> None:
    async with auditing(quick.model_copy(update={"audit_head_file": tmp_path / "none" / "head"})) as audit:
        audit.record(entry(1))
    assert await _numbers(pool) == [1]
    assert '"event": "audit_head_not_kept"' in capsys.readouterr().err


async def test_writers_of_long_ago_are_forgotten(settings: Settings, pool: Pool) -> None:
    await pool.execute(
        """
        INSERT INTO audit_writers
        SELECT gen_random_uuid(), 1, now() - n * interval '6 days' FROM generate_series(1, 2) AS n
        """
    )
    async with auditing(settings):
        pass
    assert await pool.fetchval("SELECT count(*) FROM audit_writers") == 2
