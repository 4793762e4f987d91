"""What the benchmark does in records: it loads people, counts what a load did, and makes records of its own."""

import asyncio
import csv
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.gauges import PROBE_REQUEST
from bench.load.pgbench import Record
from bench.load.workload import MIX, OUTCOMES, Pairing, grown_families
from bench.plan import BenchError
from bench.statements import statement
from nexus_graph.model import Outcome
from nexus_graph.store.database import Pool
from nexus_graph.store.migrate import migrate

LOAD_BATCH: Final = 64
OUTCOME_OF_EVENT: Final = {
    "contact_created": Outcome.CREATED,
    "contact_linked": Outcome.LINKED,
    "families_merged": Outcome.MERGED,
}


async def load(pool: Pool, pairings: Iterator[Pairing]) -> list[asyncpg.Record]:
    """Identify each, in turn; the answers, in order."""
    answers: list[asyncpg.Record] = []
    while batch := list(islice(pairings, LOAD_BATCH)):
        emails, phones = zip(*(pairing.identifiers for pairing in batch), strict=True)
        answers += await pool.fetch(statement("load_people.sql"), emails, phones)
    return answers


async def load_families(pool: Pool, *, count: int, contacts: int, seed: int) -> list[list[int]]:
    """Families apart from the mix; the contact ids of each."""
    answers = await load(pool, grown_families(count, contacts=contacts, seed=seed))
    families = [list(answer["contact_ids"]) for answer in answers[contacts - 1 :: contacts]]
    assert all(len(family) == contacts for family in families)
    return families


async def event_mark(pool: Pool) -> int:
    """Where the events end now."""
    return int(await pool.fetchval(statement("event_last.sql")))


async def outcome_shares(pool: Pool, *, since: int, requests: int) -> dict[str, float]:
    """The outcomes since a mark, as shares of all requests. What left no event was a repeat; probes do not count."""
    rows = await pool.fetch(statement("events_since.sql"), since, PROBE_REQUEST)
    counts = {row["kind"]: row["count"] for row in rows}
    shares = {outcome.value: counts.get(kind, 0) / requests for kind, outcome in OUTCOME_OF_EVENT.items()}
    return {**shares, Outcome.MATCHED.value: 1 - sum(shares.values())}


def expected_shares() -> dict[str, float]:
    """What they are in the mix."""
    return {OUTCOMES[kind].value: share for kind, share in MIX.items()}


async def settings(pool: Pool) -> dict[str, str]:
    """The server's settings that matter here (statements/settings.sql)."""
    return {row["name"]: row["setting"] for row in await pool.fetch(statement("settings.sql"))}


async def connected(pool: Pool, url: str) -> Record:
    """How pgbench reaches the server that `url` names: by its first socket."""
    found = await settings(pool)
    folder = Path(found["unix_socket_directories"].split(",")[0].strip())
    return Record(url, socket_folder=folder, port=int(found["port"]))


async def made(record_url: str, name: str) -> str:
    """Make a database of this name, migrated and empty; the URL."""
    maker = await asyncpg.connect(record_url)
    try:
        await maker.execute(statement("database.sql").format(name=name))
    finally:
        await maker.close()
    url = urlunsplit(urlsplit(record_url)._replace(path=f"/{name}"))
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()
    return url


async def imported(env: Mapping[str, str], rows: Iterator[Pairing]) -> float:
    """Seconds that `nexus-graph import` takes. Raises BenchError if it fails."""
    with tempfile.TemporaryDirectory(prefix="nexus-bench-rows-") as folder:
        file = Path(folder) / "rows.csv"
        await asyncio.to_thread(_write, file, rows)
        return await ran(env, "import", str(file), "--json")


async def ran(env: Mapping[str, str], *command: str) -> float:
    """Seconds that a command of nexus-graph takes, from its start to its end. Raises BenchError if it fails."""
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nexus_graph", *command),
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise BenchError(f"nexus-graph {command[0]} ended with exit code {process.returncode}: {said.decode()[-500:]}")
    return perf_counter() - began


async def settled(url: str) -> None:
    """Do now what PostgreSQL would do by itself a minute later: statistics, and a checkpoint."""
    connection = await asyncpg.connect(url)
    try:
        for name in ("analyze.sql", "checkpoint.sql"):
            await connection.execute(statement(name))
    finally:
        await connection.close()


async def size_mb(url: str) -> int:
    """What the record takes on the disk, indexes and all."""
    connection = await asyncpg.connect(url)
    try:
        octets: int = await connection.fetchval(statement("size.sql"))
        return round(octets / 1e6)
    finally:
        await connection.close()


def _write(file: Path, rows: Iterator[Pairing]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("email", "phoneNumber"))
        writer.writerows(pairing.identifiers for pairing in rows)
