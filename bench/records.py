"""Records beside the stack's own: databases on the same PostgreSQL, filled by `nexus-graph import`."""

import asyncio
import csv
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.plan import BenchError
from bench.statements import statement
from bench.workload import Pairing
from nexus_graph.store.migrate import migrate


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
