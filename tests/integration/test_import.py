"""import: a file ends in the record and the graph as load would leave it; also killed, beside others, with bad rows."""

import asyncio
import json
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import psutil
import pytest
from neo4j import AsyncDriver

from nexus_graph.bulk.import_file import import_rows
from nexus_graph.bulk.lines import UnreadableFile
from nexus_graph.bulk.reader import Reader
from nexus_graph.bulk.summary import Summary
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.identity.opening import Identity, open_identity
from nexus_graph.model import IdentifyRequest, Outcome
from nexus_graph.store.database import Pool, connect_pool
from tests.property.history import Answered, final_state_violations, violations
from tests.property.oracle import Oracle
from tests.stage.graphing import Pair, findings, identify, outbox_rows, relaying, soft_delete
from tests.stage.loading import command, random_pairs, start, write


@pytest.fixture
def seed() -> int:
    """Other rows each run; NEXUS_TEST_SEED repeats one."""
    seed = int(os.environ.get("NEXUS_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"NEXUS_TEST_SEED={seed}")
    return seed


async def _import(settings: Settings, file: Path, summary: Summary | None = None) -> Summary:
    async with Reader(file, settings) as reader:
        return await _import_read(settings, reader, summary)


async def _import_read(settings: Settings, reader: Reader, summary: Summary | None = None) -> Summary:
    summary = summary or Summary()
    pool = await connect_pool(settings, role="nexus_import", size=1)
    try:
        await import_rows(pool, reader, settings, summary)
    finally:
        await pool.close()
    return summary


async def _families(pool: Pool) -> tuple[list[Pair], set[frozenset[int]]]:
    """The contacts in the order of their ids, and the families, each as the places of its contacts."""
    rows = await pool.fetch("SELECT id, email, phone_number, linked_id FROM contacts ORDER BY id")
    families: dict[int, set[int]] = {}
    for place, row in enumerate(rows):
        families.setdefault(row["linked_id"] or row["id"], set()).add(place)
    return [(row["email"], row["phone_number"]) for row in rows], {frozenset(family) for family in families.values()}


async def _versions(pool: Pool) -> dict[int, int]:
    rows = await pool.fetch("SELECT family_id, max(seq) FROM identity_events GROUP BY family_id")
    return {row[0]: row[1] for row in rows}


def _small(settings: Settings, rows: int = 100) -> Settings:
    return settings.model_copy(update={"import_chunk_rows": rows})


@pytest.mark.parametrize("keys", [40, 900, 2_500])
async def test_a_file_ends_as_its_rows_would_one_after_another(
    settings: Settings, pool: Pool, tmp_path: Path, keys: int, seed: int
) -> None:
    pairs = random_pairs(seed, 2_000, keys)
    oracle, outcomes = Oracle(), Counter[str]()
    for email, phone in pairs:
        outcomes[oracle.identify(email, phone).outcome] += 1

    summary = await _import(_small(settings), write(tmp_path / "rows.csv", pairs))

    assert summary.complete
    assert summary.rows == len(pairs)
    assert {outcome.value: count for outcome, count in summary.outcomes.items()} == outcomes
    assert await _families(pool) == (oracle.rows, oracle.families())


async def test_the_graph_follows_an_import_into_a_record_with_a_past(
    settings: Settings, pool: Pool, driver: AsyncDriver, tmp_path: Path, seed: int
) -> None:
    for pair in random_pairs(seed, 300, 200):
        await identify(pool, pair)
    for contact_id in range(1, 100, 7):
        await soft_delete(pool, contact_id)
    async with relaying(settings) as relay:
        await relay.drained()
    versions = await _versions(pool)
    file = write(tmp_path / "rows.csv", random_pairs(seed + 1, 1_500, 400))

    await _import(_small(settings, 200), file)

    later = await _versions(pool)
    assert all(later[family] >= version for family, version in versions.items())
    moments = [row["at"] for row in await pool.fetch("SELECT at FROM identity_events ORDER BY seq")]
    assert moments == sorted(set(moments))
    async with relaying(settings) as relay:
        await relay.drained()
    assert await outbox_rows(pool) == []
    assert await findings(pool, driver) == []


async def test_importing_again_changes_nothing(settings: Settings, pool: Pool, tmp_path: Path, seed: int) -> None:
    pairs = random_pairs(seed, 1_000, 300)
    file = write(tmp_path / "rows.csv", pairs)
    await _import(_small(settings), file)
    before = await pool.fetchval("SELECT last_value FROM change_seq")

    again = await _import(settings, file)

    assert again.outcomes == {Outcome.MATCHED: len(pairs)}
    assert await pool.fetchval("SELECT last_value FROM change_seq") == before


async def test_killed_it_leaves_what_its_first_rows_make_and_goes_on(
    settings: Settings, pool: Pool, tmp_path: Path, seed: int
) -> None:
    pairs = random_pairs(seed, 30_000, 60_000)
    file = write(tmp_path / "rows.csv", pairs)
    notices: asyncio.Queue[None] = asyncio.Queue()

    def notice(*_: object) -> None:
        notices.put_nowait(None)

    async with pool.acquire() as listening:
        await listening.add_listener("outbox", notice)
        process = await start(settings, "import", str(file), NEXUS_IMPORT_CHUNK_ROWS="100")
        for _ in range(5):  # chunks that are in
            await notices.get()
        process.kill()
        await process.communicate()  # its reader writes there as well: this returns once that is gone, too
        await listening.remove_listener("outbox", notice)
    # The server ends what the killed process had begun; until then it holds the write lock.
    await identify(pool, pairs[0])

    rows, families = await _families(pool)
    oracle = Oracle()
    oracles = iter(pairs)
    chunks_in = 0
    while len(oracle.rows) < len(rows):
        for email, phone in (next(oracles) for _ in range(100)):
            oracle.identify(email, phone)
        chunks_in += 1
    assert (rows, families) == (oracle.rows, oracle.families())
    assert 5 <= chunks_in < 300

    await _import(settings, file)
    for email, phone in oracles:
        oracle.identify(email, phone)
    assert await _families(pool) == (oracle.rows, oracle.families())


async def test_identify_goes_on_beside_an_import(
    settings: Settings, pool: Pool, driver: AsyncDriver, tmp_path: Path, seed: int
) -> None:
    """Both over the same people: families are components of all that either named, and every answer is linearizable."""
    pairs = random_pairs(seed, 6_000, 8_000)
    calls = iter(random_pairs(seed + 1, 3_000, 8_000))
    history: list[Answered] = []

    async def client(identity: Identity) -> None:
        for email, phone in calls:
            sent = monotonic()
            family = (await identity.identify(IdentifyRequest(email, phone))).family
            ids = tuple(contact.id for contact in family.contacts)
            history.append(Answered(sent, monotonic(), email, phone, ids, family.emails, family.phones))

    file = write(tmp_path / "rows.csv", pairs)
    small = _small(settings)
    async with open_identity(settings) as identity, Reader(file, small) as reader, asyncio.TaskGroup() as group:
        importing = group.create_task(_import_read(small, reader))
        await asyncio.gather(*(client(identity) for _ in range(16)))
        summary = await importing

    assert summary.complete
    assert (
        await pool.fetchval(
            "SELECT count(DISTINCT request_id IS NULL) FROM identity_events WHERE seq BETWEEN "
            "(SELECT min(seq) FROM identity_events WHERE request_id IS NULL) AND "
            "(SELECT max(seq) FROM identity_events WHERE request_id IS NULL)"
        )
        == 2
    ), "neither went on beside the other"
    assert violations(history) == []
    imported = [Answered(0, 0, email, phone, (), (), ()) for email, phone in pairs]
    assert await final_state_violations(pool, history + imported) == []
    async with relaying(settings) as relay:
        await relay.drained()
    assert await findings(pool, driver) == []


async def test_a_reader_that_is_killed_is_no_end_of_the_file(
    settings: Settings, pool: Pool, tmp_path: Path, seed: int
) -> None:
    pairs = random_pairs(seed, 5_000, 10_000)
    small = _small(settings)
    async with Reader(write(tmp_path / "rows.csv", pairs), small) as reader:
        readers = [child for child in psutil.Process().children() if "--multiprocessing-fork" in child.cmdline()]
        assert len(readers) == 1
        readers[0].kill()
        summary = Summary()
        with pytest.raises(UnreadableFile, match="the process that read it was killed"):
            await _import_read(small, reader, summary)

    oracle = Oracle()
    for email, phone in pairs[: summary.rows]:
        oracle.identify(email, phone)
    assert summary.rows < len(pairs)
    assert await _families(pool) == (oracle.rows, oracle.families())


async def test_two_imports_of_one_file_at_once(settings: Settings, pool: Pool, tmp_path: Path, seed: int) -> None:
    pairs = random_pairs(seed, 2_000, 600)
    file = write(tmp_path / "rows.csv", pairs)

    one, other = await asyncio.gather(_import(_small(settings), file), _import(_small(settings, 70), file))

    assert one.complete
    assert other.complete
    assert await final_state_violations(pool, [Answered(0, 0, *pair, (), (), ()) for pair in pairs]) == []


async def test_refusals_are_counted_with_their_reason(settings: Settings, tmp_path: Path) -> None:
    pairs: list[Pair] = [(f"e{n}@example.com", "447700900000") for n in range(4)]

    summary = await _import(settings.model_copy(update={"family_limit_contacts": 3}), write(tmp_path / "a.csv", pairs))

    assert summary.outcomes == {Outcome.CREATED: 1, Outcome.LINKED: 2, Outcome.REFUSED: 1}
    assert summary.refusals == {"FAMILY_LIMIT": 1}


async def test_a_row_that_the_record_refuses_fails_alone(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    await pool.execute("ALTER TABLE contacts ADD CHECK (email <> 'refused@example.com')")
    pairs: list[Pair] = [(f"e{n}@example.com", None) for n in range(30)]
    pairs[12] = ("refused@example.com", "447700900012")

    summary = await _import(_small(settings, 10), write(tmp_path / "rows.csv", pairs))

    assert summary.rows == 30
    assert summary.outcomes == {Outcome.CREATED: 29}
    assert [(fault.rows, fault.first_lines) for fault in summary.failed.values()] == [(1, [14])]
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 29


async def test_what_stands_before_an_unreadable_line_is_in(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"email\na@example.com\nb@example.com\n\xff@example.com\nc@example.com\n")

    with pytest.raises(UnreadableFile, match="line 4 is not UTF-8"):
        await _import(_small(settings, 1), file)

    assert await pool.fetchval("SELECT count(*) FROM contacts") == 2


async def test_a_record_that_stays_away_stops_the_import_at_a_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "rows.csv", [(f"e{n}@example.com", None) for n in range(30)])
    impatient = settings.model_copy(update={"load_tries_max": 2})
    monkeypatch.setattr("nexus_graph.bulk.load.RETRY_BASE_SECONDS", 0.0)
    monkeypatch.setattr("nexus_graph.store.database.LOCK_TIMEOUT_SECONDS", 0.05)
    summary, holder = Summary(), await connect_pool(settings, role=None, size=1)
    async with holder.acquire() as connection, connection.transaction():
        await connection.execute("SELECT take_write_lock()")
        with pytest.raises(Unavailable):
            await _import(impatient, file, summary)
    await holder.close()

    assert summary.stopped is not None
    assert "(DATABASE_URL) took no writes for too long, as it " in summary.stopped
    assert ": stopped at line 2. The rows before it are in." in summary.stopped
    assert (await _import(settings, file)).outcomes == {Outcome.CREATED: 30}


async def test_a_record_that_is_read_only_is_waited_for_and_else_left_with_a_way_to_go_on(
    settings: Settings, pool: Pool, tmp_path: Path
) -> None:
    file = write(tmp_path / "rows.csv", [(f"e{n}@example.com", None) for n in range(30)])
    database = await pool.fetchval("SELECT current_database()")
    await pool.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')

    process = await start(settings, "import", str(file), NEXUS_LOAD_TRIES_MAX="2")
    answer, errors = await process.communicate()
    assert process.returncode == 1
    assert b"Traceback" not in errors
    told = errors.decode().splitlines()[-1]
    assert told.startswith("nexus-graph: PostgreSQL at ")
    assert told.endswith(
        f"/{database} (DATABASE_URL) took no writes for too long, as it is read-only (25006): stopped at line 2. "
        "The rows before it are in. Import the file again: rows that are in already change nothing."
    )
    assert b"CREATED" not in answer

    waiting = await start(settings, "import", str(file), "--json")
    assert waiting.stderr is not None
    assert b"chunk_failed" in await waiting.stderr.readline()
    await pool.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = off')
    answer, _ = await waiting.communicate()
    assert (waiting.returncode, json.loads(answer)["created"]) == (0, 30)


async def test_the_command_counts_what_is_wrong_and_never_quotes_it(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        "email,phone\n"
        "a@example.com,+44 7700 900123\n"
        "secret-name,\n"
        ",secret-number\n"
        " , \n"
        "b@example.com,+447700900123\n"
        "another-secret,123456\n",
        encoding="utf-8",
    )

    code, answer, errors = await command(settings, "import", str(file), "--json")

    summary = json.loads(answer)
    assert code == 1
    assert {key: summary[key] for key in ("rows", "created", "linked", "merged", "matched", "refused")} == {
        "rows": 6,
        "created": 2,
        "linked": 1,
        "merged": 0,
        "matched": 0,
        "refused": 0,
    }
    assert [(fault["rows"], fault["firstLines"]) for fault in summary["invalid"]] == [(1, [3]), (1, [4]), (1, [5])]
    assert [(fault["column"], fault["rows"], fault["firstLines"]) for fault in summary["dropped"]] == [
        ("email", 1, [7])
    ]
    assert summary["stopped"] is None
    assert "secret" not in answer + errors


async def test_the_command_takes_json_lines_and_prints_a_summary_for_people(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"email": "a@example.com"}\nnot JSON\n{"email": "a@example.com", "phoneNumber": 123456}\n')

    code, answer, errors = await command(settings, "import", str(file))

    assert (code, errors) == (1, "")
    words = answer.split()
    for count, outcome in (("1", "CREATED"), ("1", "LINKED"), ("0", "MERGED"), ("1", "invalid"), ("0", "failed")):
        assert words[words.index(outcome) - 1] == count


async def test_interrupted_the_command_says_what_is_in(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.csv", [(f"e{line}@example.com", None) for line in range(2, 400_002)])
    process = await start(settings, "import", str(file), NEXUS_IMPORT_CHUNK_ROWS="50")
    assert process.stderr is not None
    assert b"rows/s" in await process.stderr.readline()

    process.send_signal(signal.SIGINT)
    answer, errors = await process.communicate()

    assert process.returncode == 1
    stopped = re.search(r"interrupted: stopped at line (\d+)\. The rows before it are in\.", errors.decode())
    assert stopped is not None, errors
    line = int(stopped[1])
    emails = {row[0] for row in await pool.fetch("SELECT email FROM contacts")}
    assert emails >= {f"e{number}@example.com" for number in range(2, line)}
    assert len(emails) <= line - 2 + 50
    assert b"CREATED" in answer


async def test_the_role_may_not_delete(settings: Settings) -> None:
    pool = await connect_pool(settings, role="nexus_import", size=1)
    for statement in _forbidden():
        with pytest.raises(Exception, match="permission denied"):
            await pool.execute(statement)
    await pool.close()


def _forbidden() -> Iterator[str]:
    yield "DELETE FROM contacts"
    yield "UPDATE contacts SET deleted_at = now()"
    yield "UPDATE contacts SET email = NULL"
    yield "DELETE FROM identity_events"
    yield "UPDATE identity_events SET at = now()"
    yield "DELETE FROM outbox"
