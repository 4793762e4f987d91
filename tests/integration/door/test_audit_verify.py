"""`nexus-graph audit`: tampering is found and named, old months go and the rest still verifies, exports stream."""

import asyncio
import csv
import io
import json
import os
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nexus_graph.commands import audit as commands
from nexus_graph.config import Settings
from nexus_graph.door.audit import append
from nexus_graph.door.audit_chain import keep_head
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool
from tests.stage.auditing import Clock, entry, head_at, stored, table_of_month, tampered, verified
from tests.stage.commands import ran

Capsys = pytest.CaptureFixture[str]

TAIL_REMOVED_HEAD_PUT_BACK = """
    DELETE FROM audit_log WHERE seq > 15;
    UPDATE audit_head SET seq = 15, hash = (SELECT hash FROM audit_log WHERE seq = 15)
"""
CHAIN_REMOVED = """
    DELETE FROM audit_log;
    UPDATE audit_head SET seq = 0, hash = (SELECT hash FROM audit_stubs WHERE seq = 0)
"""
WRITTEN_ANEW = (
    CHAIN_REMOVED
    + """;
    SELECT audit_append(
        NULL, NULL, array_fill('system'::text, '{20}'), array_fill('identify'::text, '{20}'),
        array_fill('answered'::text, '{20}'), array_fill(NULL::text, '{20}'), array_fill(NULL::uuid, '{20}'),
        array_fill('{}'::text, '{20}'), array_fill(0::bigint, '{20}'), array_fill(NULL::bigint, '{20}')
    )
    """
)
COPY_OF_7 = """
    INSERT INTO audit_log
    SELECT {seq}, {stored_at}, at, who, what, outcome, subject, request_id, family_ids, amount, {hash}
    FROM audit_log WHERE seq = 7
"""
TAMPERING = {
    **{
        f"changed {column}": (f"UPDATE audit_log SET {column} = {value} WHERE seq = 7", [("CHANGED", 7, 7)])
        for column, value in {
            "who": "'anonymous'",
            "what": "'contact'",
            "outcome": "'forbidden'",
            "subject": "'key:0123456789ab'",
            "request_id": "NULL",
            "family_ids": "'{7}'",
            "amount": "NULL",
            "at": "at + interval '1 microsecond'",
        }.items()
    },
    "changed hash": ("UPDATE audit_log SET hash = sha256(hash) WHERE seq = 7", [("CHANGED", 7, 8)]),
    "changed time of storage": (
        "UPDATE audit_log SET stored_at = stored_at + interval '1 microsecond' WHERE seq = 7",
        [("MISSING", 7, 7), ("MISPLACED", 7, 7)],
    ),
    "moved to another month": (
        "UPDATE audit_log SET stored_at = stored_at + interval '1 month' WHERE seq = 7",
        [("MISSING", 7, 7), ("MISPLACED", 7, 7)],
    ),
    "swapped": (
        """
        UPDATE audit_log SET seq = -7 WHERE seq = 7;
        UPDATE audit_log SET seq = 7 WHERE seq = 8;
        UPDATE audit_log SET seq = 8 WHERE seq = -7
        """,
        [("CHANGED", 7, 9)],
    ),
    "removed from the middle": ("DELETE FROM audit_log WHERE seq = 7", [("MISSING", 7, 7)]),
    "removed from the beginning": ("DELETE FROM audit_log WHERE seq < 8", [("MISSING", 1, 7)]),
    "tail removed": ("DELETE FROM audit_log WHERE seq > 15", [("CUT", 16, 20), ("FILE_AHEAD", 16, 20)]),
    "tail removed, head put back": (TAIL_REMOVED_HEAD_PUT_BACK, [("FILE_AHEAD", 16, 20)]),
    "chain removed": (CHAIN_REMOVED, [("FILE_AHEAD", 1, 20)]),
    "chain written anew": (WRITTEN_ANEW, [("FILE_DIFFERS", 20, 20)]),
    "forged past the head": (
        COPY_OF_7.format(seq=21, stored_at="clock_timestamp()", hash="hash"),
        [("CHANGED", 21, 21), ("FORGED", 21, 21)],
    ),
    "forged in between": (
        COPY_OF_7.format(seq=7, stored_at="stored_at + interval '1 microsecond'", hash="hash"),
        [("MISPLACED", 7, 7)],
    ),
    "table of the month emptied": ("TRUNCATE {month}", [("CUT", 1, 20), ("FILE_AHEAD", 1, 20)]),
    "table of the month dropped": ("DROP TABLE {month}", [("CUT", 1, 20), ("FILE_AHEAD", 1, 20)]),
    "head replaced": ("UPDATE audit_head SET hash = sha256(hash)", [("HEAD_DIFFERS", 20, 20)]),
    "head put back": (
        "UPDATE audit_head SET seq = 15, hash = (SELECT hash FROM audit_log WHERE seq = 15)",
        [("FORGED", 16, 20)],
    ),
    "head removed": ("DELETE FROM audit_head", [("HEAD_MISSING", 0, 0)]),
    "beginning replaced": ("UPDATE audit_stubs SET hash = sha256(hash)", [("CHANGED", 1, 1)]),
    "beginning removed": ("DELETE FROM audit_stubs", [("CHANGED", 1, 1)]),
    "months cut without a retention": (
        "INSERT INTO audit_stubs SELECT seq, hash FROM audit_log WHERE seq = 10; DELETE FROM audit_log WHERE seq <= 10",
        [("STUB_ALONE", 10, 10)],
    ),
}


@pytest.fixture
async def trail(pool: Pool, tmp_path: Path) -> Path:
    """Twenty entries in four batches. The file that keeps their head."""
    await stored(pool, 20)
    keep_head(tmp_path / "head", await head_at(pool))
    return tmp_path / "head"


@pytest.mark.parametrize("how", TAMPERING)
async def test_tampering_is_found_and_named(
    settings: Settings, pool: Pool, trail: Path, capsys: Capsys, how: str
) -> None:
    assert (await verified(settings, capsys, head_file=trail))[0] == []
    statement, expected = TAMPERING[how]
    await tampered(pool, statement.replace("{month}", await table_of_month(pool)))
    assert (await verified(settings, capsys, head_file=trail))[0] == expected


@pytest.mark.parametrize("how", ["tail removed, head put back", "chain removed", "chain written anew"])
async def test_what_the_owner_writes_anew_shows_only_beside_a_head_kept_elsewhere(
    settings: Settings, pool: Pool, trail: Path, capsys: Capsys, how: str
) -> None:
    """The limit of what a database can prove about its owner."""
    await tampered(pool, TAMPERING[how][0])
    assert (await verified(settings, capsys))[0] == []


async def test_an_earlier_head_vouches_for_all_before_it(
    settings: Settings, pool: Pool, trail: Path, capsys: Capsys
) -> None:
    await stored(pool, 20, first=21)
    found, answer = await verified(settings, capsys, head_file=trail)
    assert (found, answer["entries"], answer["head"]["sequence"]) == ([], 40, 40)
    head = await head_at(pool)
    assert answer["head"] == {"sequence": head.seq, "hash": head.hash.hex(), "digest": head.digest}


async def test_a_head_file_that_is_gone_is_a_fault(
    settings: Settings, trail: Path, tmp_path: Path, capsys: Capsys
) -> None:
    assert (await verified(settings, capsys, head_file=tmp_path / "none"))[0] == [("FILE_UNREADABLE", 0, 0)]
    await asyncio.to_thread(trail.write_text, "")
    by_setting = settings.model_copy(update={"audit_head_file": trail})
    assert (await verified(by_setting, capsys))[0] == [("FILE_UNREADABLE", 0, 0)]


async def test_a_report_for_people_names_faults_and_the_head(
    settings: Settings, pool: Pool, trail: Path, capsys: Capsys
) -> None:
    await tampered(pool, "DELETE FROM audit_log WHERE seq IN (7, 12, 13); DELETE FROM audit_head")
    assert await commands.verify(settings) == 1
    digest = (await pool.fetchval("SELECT hash FROM audit_log WHERE seq = 20")).hex()
    assert capsys.readouterr().out.splitlines() == [
        "entry 7: missing",
        "entries 12 to 13: missing",
        "the head of the chain is missing",
        "17 entries verified, 3 faults",
        f"head: 20 {digest}",
    ]


MONTH = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _months_ago(count: int) -> datetime:
    month = MONTH
    for _ in range(count):
        month = (month - timedelta(days=1)).replace(day=1)
    return month


@pytest.fixture
async def clock(pool: Pool) -> Clock:
    clock = Clock(pool)
    await clock.stage()
    return clock


@pytest.fixture
async def old_trail(pool: Pool, clock: Clock, tmp_path: Path) -> Path:
    """Ten entries in each of this month and the three before. The file that keeps their head."""
    for ago in (3, 2, 1, 0):
        await clock.shows(_months_ago(ago) + timedelta(hours=1))
        await stored(pool, 10, first=31 - 10 * ago)
    await clock.end()
    keep_head(tmp_path / "head", await head_at(pool))
    return tmp_path / "head"


async def _retained(settings: Settings, capsys: Capsys, months: int) -> dict[str, Any]:
    assert await commands.retain(settings, months=months, as_json=True) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


async def _tables(pool: Pool) -> list[str]:
    rows = await pool.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_log'::regclass ORDER BY 1"
    )
    return [row[0] for row in rows]


def _table(month: datetime) -> str:
    return f"audit_log_{month:%Y_%m}"


async def test_no_entry_is_lost_at_the_turn_of_a_month_and_nobody_waits_for_a_reader(
    settings: Settings, pool: Pool, clock: Clock, capsys: Capsys
) -> None:
    """The table of the next month is there before it begins. A read that is open all along holds nobody up."""
    async with pool.acquire() as reading, reading.transaction(), pool.acquire() as writing:
        assert await reading.fetch("SELECT FROM audit_log") == []
        await writing.execute("SET lock_timeout = '2s'")
        turn = datetime(2031, 1, 1, tzinfo=UTC)
        for number, moment in enumerate((turn - timedelta(microseconds=1), turn, turn + timedelta(days=200)), 1):
            await clock.shows(moment)
            await append(writing, [entry(number)])
            assert {_table(moment), _table(moment.replace(day=28) + timedelta(days=4))} <= set(await _tables(pool))
    rows = await pool.fetch("SELECT seq, tableoid::regclass::text FROM audit_log ORDER BY seq")
    assert [tuple(row) for row in rows] == [
        (1, "audit_log_2030_12"),
        (2, "audit_log_2031_01"),
        (3, "audit_log_2031_07"),
    ]
    assert (await verified(settings, capsys))[0] == []


async def test_a_clock_that_is_put_back_does_not_reorder_the_trail(
    settings: Settings, pool: Pool, clock: Clock, capsys: Capsys
) -> None:
    for moment in (datetime(2031, 1, 1, tzinfo=UTC), datetime(2030, 12, 31, tzinfo=UTC)):
        await clock.shows(moment)
        await stored(pool, 3)
    assert await pool.fetchval("SELECT count(DISTINCT stored_at) FROM audit_log") == 1
    assert (await verified(settings, capsys))[0] == []


async def test_old_months_go_and_the_rest_verifies(
    settings: Settings, pool: Pool, old_trail: Path, capsys: Capsys
) -> None:
    early = old_trail.with_name("early")
    keep_head(early, await head_at(pool, 15))
    at_the_cut = old_trail.with_name("at the cut")
    keep_head(at_the_cut, await head_at(pool, 20))
    assert await _retained(settings, capsys, 1) == {
        "dropped": [_table(_months_ago(3)), _table(_months_ago(2))],
        "entries": 20,
        "through": 20,
    }
    for file in (old_trail, at_the_cut):
        found, answer = await verified(settings, capsys, head_file=file)
        assert (found, answer["entries"]) == ([], 21), "twenty, and one that tells of the retention"
    assert (await verified(settings, capsys, head_file=early))[0] == [("FILE_OLD", 15, 15)]
    (told,) = await pool.fetch("SELECT who, what, outcome, amount FROM audit_log ORDER BY seq DESC LIMIT 1")
    assert tuple(told) == ("command", "audit-retain", "changed", 20)
    # A second retention has nothing to do, and leaves no entry.
    assert (await _retained(settings, capsys, 1))["dropped"] == []
    assert await pool.fetchval("SELECT max(seq) FROM audit_log") == 41


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM audit_log WHERE seq = 21", [("MISSING", 21, 21)]),
        ("UPDATE audit_stubs SET hash = sha256(hash) WHERE seq = 20", [("CHANGED", 21, 21)]),
        ("DELETE FROM audit_stubs WHERE seq = 20", [("MISSING", 1, 20)]),
        ("UPDATE audit_log SET amount = 19 WHERE seq = 41", [("CHANGED", 41, 41), ("STUB_ALONE", 20, 20)]),
    ],
)
@pytest.mark.usefixtures("old_trail")
async def test_tampering_after_a_retention_is_found(
    settings: Settings, pool: Pool, capsys: Capsys, statement: str, expected: list[Any]
) -> None:
    await _retained(settings, capsys, 1)
    await tampered(pool, statement)
    assert (await verified(settings, capsys))[0] == expected


async def test_months_that_do_not_verify_are_not_dropped(
    settings: Settings, pool: Pool, old_trail: Path, capsys: Capsys
) -> None:
    await tampered(pool, "UPDATE audit_log SET outcome = 'refused' WHERE seq = 3")
    before = await pool.fetch("SELECT * FROM audit_log")
    assert await commands.retain(settings, months=1) == 1
    assert "do not verify, and nothing was dropped" in capsys.readouterr().err
    assert await pool.fetch("SELECT * FROM audit_log") == before


async def test_a_retention_waits_for_no_export_to_end(
    settings: Settings, pool: Pool, old_trail: Path, capsys: Capsys
) -> None:
    before = await _tables(pool)
    async with pool.acquire() as reading, reading.transaction():
        await reading.fetch("SELECT FROM audit_log")
        assert await commands.retain(settings, months=1) == 1
    assert "try again" in capsys.readouterr().err
    assert await _tables(pool) == before
    assert (await verified(settings, capsys))[0] == []


async def _exported(
    settings: Settings, capsys: Capsys, first: datetime | None = None, until: datetime | None = None
) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert await commands.export(settings, first=first, until=until, form="jsonl") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_an_export_holds_each_entry_once_and_the_times_have_no_seam(
    settings: Settings, pool: Pool, old_trail: Path, capsys: Capsys
) -> None:
    whole = await _exported(settings, capsys)
    assert [line["seq"] for line in whole] == list(range(1, 41))
    seam = _months_ago(1) + timedelta(hours=1)  # the moment at which entries 21 to 30 were stored
    before, after = await _exported(settings, capsys, None, seam), await _exported(settings, capsys, seam, None)
    assert before + after == whole
    assert after[0]["seq"] == 21
    (row,) = await pool.fetch("SELECT * FROM audit_log WHERE seq = 7")
    line = whole[6]
    assert (line["who"], line["what"], line["outcome"], line["subject"]) == (row["who"], "identify", "changed", None)
    assert (line["request_id"], line["family_ids"], line["amount"]) == (str(row["request_id"]), [7, 8], 7)
    assert (line["hash"], datetime.fromisoformat(line["at"])) == (row["hash"].hex(), row["at"])


async def test_an_export_as_csv(settings: Settings, pool: Pool, trail: Path, capsys: Capsys) -> None:
    assert await commands.export(settings, first=None, until=None, form="csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["seq"]) for row in rows] == list(range(1, 21))
    assert rows[6]["family_ids"] == "7 8"
    assert rows[6]["subject"] == ""


async def test_an_export_streams(
    settings: Settings, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty times as many entries take no more memory, here or for a sort on the server."""
    peaks = []
    for count in (1_000, 19_000):
        await stored(pool, count, batch=1_000)
        with (tmp_path / "export.jsonl").open("w", encoding="utf-8") as file:
            monkeypatch.setattr(sys, "stdout", file)
            tracemalloc.start()
            await commands.export(settings, first=None, until=None, form="jsonl")
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            monkeypatch.undo()
    with (tmp_path / "export.jsonl").open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == 20_000
    assert peaks[1] < 2 * peaks[0]
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetch(sql("audit_streaming"))
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql('audit_entries')}", None, None)
    assert "Sort" not in plan
    assert "Seq Scan" not in plan


async def test_the_commands(settings: Settings, trail: Path, project: Path) -> None:
    environment = os.environ | {"DATABASE_URL": settings.database_url.get_secret_value()}
    nexus = (sys.executable, "-m", "nexus_graph", "audit")
    code, printed = await ran(*nexus, "verify", "--json", "--head-file", trail, cwd=project, env=environment)
    assert (code, json.loads(printed)["entries"]) == (0, 20)
    code, printed = await ran(
        *nexus, "export", "--from", "2020-01-01", "--to", "2120-01-01T10:30", cwd=project, env=environment
    )
    assert (code, len(printed.splitlines())) == (0, 20)
    code, printed = await ran(*nexus, "retain", "--months", "12", cwd=project, env=environment)
    assert (code, printed) == (0, "nothing to drop\n")
