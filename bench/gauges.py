"""What is watched while a load runs: processors, memory, and how far the graph is behind the record.

Two independent looks at the graph, both from outside the relay: the age of the oldest row of the outbox, sampled; and
probes, each a write of our own whose family is then asked of the graph until it has the version that was written.
"""

import asyncio
import os
import platform
import resource
import statistics
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Final, NamedTuple, Self
from uuid import UUID

import psutil
from neo4j import AsyncDriver, Query, RoutingControl

from bench.load.workload import PROBES, Pairing
from bench.statements import statement
from nexus_graph.store.database import Pool

SYNCS: Final = 50
SYNC_BYTES: Final = 8192
GIT_TIMEOUT_SECONDS: Final = 10
MEMORY_LOOK_SECONDS: Final = 0.25
CHECKOUT: Final = Path(__file__).parent.parent
"""The top of the repository."""
OTHERS: Final = "others"
"""Processes that are not ours."""
_EVERYTHING: Final = "everything"


@dataclass(frozen=True)
class Machine:
    """What a reader needs to compare figures."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    disk: str
    """The file system of the data directory, and how long it takes to make 8 kB durable."""

    @classmethod
    def here(cls, data_dir: Path) -> Self:
        """This machine; writes a small file in `data_dir` to see how its disk syncs."""
        return cls(
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            disk=f"{_file_system(data_dir)}, {_sync_ms(data_dir):.2f} ms a sync",
        )


class Processors:
    """Who uses the machine's processors: our processes by name, and all others together."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        """`roots` are the process ids at the heads of trees. This process is "harness"; children of its own that come
        and go are "pgbench".
        """
        self._roots = {name: psutil.Process(pid) for name, pid in roots.items()}
        self._began = perf_counter()
        self._used = self._seconds()

    def in_use(self) -> dict[str, float]:
        """How many were in use on average since the last call, or the start. Raises psutil.NoSuchProcess if one of ours
        is gone.
        """
        began, used = self._began, self._used
        self._began, self._used = perf_counter(), self._seconds()
        elapsed = self._began - began
        cores = {name: round((seconds - used[name]) / elapsed, 3) for name, seconds in self._used.items()}
        everything = cores.pop(_EVERYTHING)
        return {**cores, OTHERS: round(max(0.0, everything - sum(cores.values())), 3)}

    def _seconds(self) -> dict[str, float]:
        trees = {name: tree_seconds(root) for name, root in self._roots.items()}
        reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
        machine = psutil.cpu_times()
        return {
            **trees,
            "pgbench": reaped.ru_utime + reaped.ru_stime,
            "harness": process_time(),
            _EVERYTHING: machine.user + machine.system + getattr(machine, "nice", 0.0),
        }


class MemoryWatch:
    """While it is open: how much memory a process and those it started hold (RSS), looked at four times a second."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._task: asyncio.Task[None] | None = None
        self.highest_mb = 0.0
        """In megabytes of 10^6 bytes."""

    async def __aenter__(self) -> Self:
        self._look()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._look()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(MEMORY_LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        held_bytes = 0
        with suppress(psutil.NoSuchProcess):  # the load that waits for its answers reports this
            for process in (self._root, *self._root.children(recursive=True)):
                held_bytes += process.memory_info().rss
        self.highest_mb = max(self.highest_mb, round(held_bytes / 1e6, 1))


def commit() -> str:
    """The commit this runs from; says so if files differ from it. "unknown" outside a checkout."""
    try:
        here = _git("rev-parse", "--short=10", "HEAD")
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks.md", ":!bench/results"
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{here} with changes" if changed else here


def tree_seconds(root: psutil.Process) -> float:
    """CPU time of a process and of those that it started, so far."""
    own = root.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in root.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # ended since: its parent has its time now, or will at the next look
            times = child.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return float(total)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=GIT_TIMEOUT_SECONDS,
        check=True,
    )
    return done.stdout.strip()


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    within = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    return max(within, key=lambda part: len(part.mountpoint)).fstype if within else "unknown file system"


def _sync_ms(folder: Path) -> float:
    path = folder / "sync.probe"
    took = []
    with path.open("wb") as file:
        for _ in range(SYNCS):
            file.write(bytes(SYNC_BYTES))
            file.flush()
            started = perf_counter()
            os.fsync(file.fileno())
            took.append(perf_counter() - started)
    path.unlink()
    return statistics.median(took) * 1000


SAMPLE_SECONDS: Final = 0.1
PROBE_SECONDS: Final = 0.4
PROBE_STEP_SECONDS: Final = 0.02
PROBE_LAG_MAX_SECONDS: Final = 30.0
"""A probe that the graph has not seen by then counts as this late."""
DRAIN_STEP_SECONDS: Final = 0.02
PROBE_REQUEST: Final = UUID("00000000-0000-4000-8000-0000be4c4a6e")
"""The request id of every probe's write: by this id they differ from the load's."""


class Sight(NamedTuple):
    """How late the graph was, once."""

    arm: str
    """Under which load."""
    seconds: float


class LagWatch:
    """Watches while it is open; what it sees counts only while `arm` says under which load."""

    def __init__(self, pool: Pool, driver: AsyncDriver) -> None:
        self._pool = pool
        self._driver = driver
        self.arm: str | None = None
        self.outbox_ages: list[Sight] = []
        self.probe_lags: list[Sight] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._probes = 0

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._sample()), asyncio.create_task(self._probe())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drained(self, *, timeout_seconds: float) -> bool:
        """Wait until no change waits for the graph; False if that takes too long. Raises what ended the watch, if
        anything did.
        """
        for task in self._tasks:
            if task.done():
                task.result()
        deadline = perf_counter() + timeout_seconds
        while await self._outbox_age_seconds() > 0:
            if perf_counter() > deadline:
                return False
            await asyncio.sleep(DRAIN_STEP_SECONDS)
        return True

    async def _outbox_age_seconds(self) -> float:
        return float(await self._pool.fetchval(statement("outbox_age.sql")))

    async def _sample(self) -> None:
        while True:
            arm = self.arm
            age_seconds = await self._outbox_age_seconds()
            if arm is not None:
                self.outbox_ages.append(Sight(arm, age_seconds))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _probe(self) -> None:
        while True:
            arm = self.arm
            lag_seconds = await self._probed_lag_seconds()
            if arm is not None:
                self.probe_lags.append(Sight(arm, lag_seconds))
            await asyncio.sleep(PROBE_SECONDS)

    async def _probed_lag_seconds(self) -> float:
        self._probes += 1
        email, phone = Pairing(PROBES + self._probes, PROBES + self._probes).identifiers
        ((family_id, version),) = await self._pool.fetch(statement("probe_write.sql"), email, phone, PROBE_REQUEST)
        committed = perf_counter()
        while (lag_seconds := perf_counter() - committed) < PROBE_LAG_MAX_SECONDS:
            if await self.graph_version(family_id) >= version:
                return perf_counter() - committed
            await asyncio.sleep(PROBE_STEP_SECONDS)
        return lag_seconds

    async def graph_version(self, family_id: int) -> int:
        """0 if the graph does not have the family."""
        found = await self._driver.execute_query(
            Query(statement("graph_version.cypher")),
            {"id": family_id},
            routing_=RoutingControl.READ,
        )
        return int(found.records[0]["version"]) if found.records else 0
