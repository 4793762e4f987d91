"""load: a file ends in the record as if its rows had been sent one after another, and what is wrong is said by line."""

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import cast

import asyncpg
import pytest

from nexus_graph.bulk.contacts import Contact, read_contacts
from nexus_graph.bulk.load import RATE_SLACK_SECONDS, RESOLVE_CONNECTIONS, load
from nexus_graph.bulk.rows import open_rows
from nexus_graph.bulk.summary import Summary
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.identity.identify import Identify
from nexus_graph.identity.opening import open_identity
from nexus_graph.model import Identification, IdentifyRequest, Outcome
from nexus_graph.store.database import Pool
from tests.property.oracle import Oracle
from tests.stage.graphing import Pair
from tests.stage.loading import command, random_pairs, start, write


async def _load(settings: Settings, file: Path, *, rate: float | None = None) -> Summary:
    summary = Summary()
    with open_rows(file) as rows:
        async with open_identity(settings, resolve_connections=RESOLVE_CONNECTIONS) as identity:
            contacts = read_contacts(rows, region=None, strict=False)
            await load(identity, settings, contacts, summary, rate=rate)
    return summary


@pytest.mark.parametrize(("seed", "keys"), [(1, 40), (2, 900), (3, 2_500)])
async def test_a_file_ends_as_its_rows_would_one_after_another(
    settings: Settings, pool: Pool, tmp_path: Path, seed: int, keys: int
) -> None:
    pairs = random_pairs(seed, 2_000, keys)
    oracle, outcomes = Oracle(), Counter[str]()
    for email, phone in pairs:
        outcomes[oracle.identify(email, phone).outcome] += 1

    summary = await _load(settings, write(tmp_path / "rows.csv", pairs))

    assert summary.complete
    assert summary.pairs == len(pairs)
    assert {outcome.value: count for outcome, count in summary.outcomes.items()} == outcomes
    rows = await pool.fetch("SELECT id, email, phone_number, linked_id FROM contacts ORDER BY id")
    # Seniority follows the file: the contacts are the oracle's, in the oracle's order.
    assert [(row["email"], row["phone_number"]) for row in rows] == oracle.rows
    families: dict[int, set[int]] = {}
    for place, row in enumerate(rows):
        families.setdefault(row["linked_id"] or row["id"], set()).add(place)
    assert {frozenset(family) for family in families.values()} == oracle.families()


async def test_loading_twice_matches_everything(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    pairs = random_pairs(4, 500, 200)
    file = write(tmp_path / "rows.csv", pairs)
    await _load(settings, file)
    before = await pool.fetchval("SELECT last_value FROM change_seq")

    again = await _load(settings, file)

    assert again.outcomes == {Outcome.MATCHED: len(pairs)}
    assert await pool.fetchval("SELECT last_value FROM change_seq") == before


async def test_refusals_are_counted_with_their_reason(settings: Settings, tmp_path: Path) -> None:
    pairs: list[Pair] = [(f"e{n}@example.com", "447700900000") for n in range(4)]

    summary = await _load(settings.model_copy(update={"family_limit_contacts": 3}), write(tmp_path / "a.csv", pairs))

    assert summary.outcomes == {Outcome.CREATED: 1, Outcome.LINKED: 2, Outcome.REFUSED: 1}
    assert summary.refusals == {"FAMILY_LIMIT": 1}
    assert summary.complete


async def test_rows_that_find_the_queue_full_are_sent_again(
    settings: Settings, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.bulk.load.IN_FLIGHT_MAX", 24)
    monkeypatch.setattr("nexus_graph.gather.bounds.QUEUE_MAX", 8)
    monkeypatch.setattr("nexus_graph.bulk.load.RETRY_BASE_SECONDS", 0.0)
    pairs: list[Pair] = [(f"e{n}@example.com", None) for n in range(500)]

    summary = await _load(settings, write(tmp_path / "rows.csv", pairs))

    assert summary.complete
    assert summary.outcomes == {Outcome.CREATED: 500}
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 500


async def test_a_record_that_stays_away_stops_the_load_at_a_line_to_go_on_from(
    settings: Settings,
    servers_admin: "asyncpg.Connection[asyncpg.Record]",
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nexus_graph.bulk.load.RETRY_BASE_SECONDS", 0.0)
    impatient = settings.model_copy(update={"load_tries_max": 2})
    database = settings.database_url.get_secret_value().rpartition("/")[2]
    begun, summary = asyncio.Event(), Summary()

    def contacts() -> Iterator[Contact]:
        for line in range(2, 20_002):
            if line == 500:
                begun.set()
            yield Contact(line, [(f"e{line}@example.com", None)], [])

    async def shut_down() -> None:
        await begun.wait()
        await servers_admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        await servers_admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
        )

    shutting_down = asyncio.create_task(shut_down())
    async with open_identity(impatient, resolve_connections=RESOLVE_CONNECTIONS) as identity:
        await load(identity, impatient, contacts(), summary)
    await shutting_down

    assert summary.stopped is not None
    told = re.fullmatch(
        r"PostgreSQL at .* \(DATABASE_URL\) took no writes for too long, as it .*: stopped at line (\d+)\..*",
        summary.stopped,
    )
    assert told is not None
    line = int(told[1])
    assert 2 <= line < 20_002
    await servers_admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
    emails = {row[0] for row in await pool.fetch("SELECT email FROM contacts")}
    assert emails >= {f"e{number}@example.com" for number in range(2, line)}
    again = Summary()
    async with open_identity(settings, resolve_connections=RESOLVE_CONNECTIONS) as identity:
        await load(identity, settings, contacts(), again)
    assert again.complete
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 20_000


async def test_a_record_that_is_read_only_for_a_while_costs_no_row(
    settings: Settings, pool: Pool, servers_admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """It is away and comes back: what it refused meanwhile is sent again, and is nobody's fault."""
    database = settings.database_url.get_secret_value().rpartition("/")[2]
    begun, refused, summary = asyncio.Event(), asyncio.Event(), Summary()

    def contacts() -> Iterator[Contact]:
        for line in range(2, 3_002):
            if line == 500:
                begun.set()
            yield Contact(line, [(f"e{line}@example.com", None)], [])

    async def turn_read_only() -> None:
        await begun.wait()
        await servers_admin.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')
        await servers_admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
        )
        await refused.wait()
        await servers_admin.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = off')

    turning = asyncio.create_task(turn_read_only())
    async with open_identity(settings, resolve_connections=RESOLVE_CONNECTIONS) as identity:

        async def identify(request: IdentifyRequest) -> Identification:
            try:
                return await identity.identify(request)
            except Unavailable:
                refused.set()
                raise

        await load(replace(identity, identify=cast("Identify", identify)), settings, contacts(), summary)
    await turning

    assert (summary.stopped, summary.failed, summary.complete) == (None, {}, True)
    assert summary.outcomes.total() == 3_000
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 3_000


async def test_the_rate_is_kept(settings: Settings, tmp_path: Path) -> None:
    pairs: list[Pair] = [(f"e{n}@example.com", None) for n in range(80)]
    file = write(tmp_path / "rows.csv", pairs)
    started = monotonic()

    summary = await _load(settings, file, rate=200)

    assert summary.outcomes == {Outcome.CREATED: 80}
    assert monotonic() - started >= 79 / 200 - RATE_SLACK_SECONDS


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

    code, answer, errors = await command(settings, "load", str(file), "--json")

    summary = json.loads(answer)
    assert code == 1
    assert summary["rows"] == 6
    assert {key: summary[key] for key in ("created", "linked", "merged", "matched", "refused")} == {
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


async def test_the_command_prints_a_summary_for_people(settings: Settings, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.csv", [("a@example.com", None), ("a@example.com", "123456")])

    code, answer, errors = await command(settings, "load", str(file))

    assert (code, errors) == (0, "")
    words = answer.split()
    for count, outcome in (("1", "CREATED"), ("1", "LINKED"), ("0", "MERGED"), ("0", "invalid"), ("0", "failed")):
        assert words[words.index(outcome) - 1] == count


async def test_the_command_loads_what_stands_before_an_unreadable_line(
    settings: Settings, pool: Pool, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"email\na@example.com\n\xff@example.com\nb@example.com\n")

    code, answer, errors = await command(settings, "load", str(file), "--json")

    assert code == 2
    assert "line 3 is not UTF-8" in errors
    assert json.loads(answer)["created"] == 1
    assert await pool.fetchval("SELECT email FROM contacts") == "a@example.com"


async def test_the_command_says_when_the_record_is_away(settings: Settings, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.csv", [("a@example.com", None)])
    away = settings.model_copy(update={"database_url": type(settings.database_url)("postgresql://x@127.0.0.1:1/x")})

    code, answer, errors = await command(away, "load", str(file))

    assert code == 1
    assert "CREATED" not in answer
    assert errors.startswith("nexus-graph: PostgreSQL at 127.0.0.1:1/x (DATABASE_URL) does not answer")
    assert "Traceback" not in errors


async def test_interrupted_the_command_says_where_to_go_on(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.csv", [(f"e{line}@example.com", None) for line in range(2, 10_002)])
    process = await start(settings, "load", str(file), "--rate", "200")
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
    assert len(emails) <= line - 1
    assert b"CREATED" in answer


@pytest.fixture
async def servers_admin(settings: Settings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to another database of the same server."""
    head = settings.database_url.get_secret_value().rpartition("/")[0]
    connection = await asyncpg.connect(f"{head}/postgres")
    yield connection
    await connection.close()
