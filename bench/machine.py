"""The machine of a run: what it is, and who used its processors."""

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
from typing import Final, Self

import psutil

SYNCS: Final = 50
SYNC_BYTES: Final = 8192
GIT_TIMEOUT_SECONDS: Final = 10
MEMORY_LOOK_SECONDS: Final = 0.25
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
        trees = {name: _tree_seconds(root) for name, root in self._roots.items()}
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
        with suppress(psutil.NoSuchProcess):  # whoever waits for its answers will say so
            for process in (self._root, *self._root.children(recursive=True)):
                held_bytes += process.memory_info().rss
        self.highest_mb = max(self.highest_mb, round(held_bytes / 1e6, 1))


def commit() -> str:
    """The commit this runs from; says so if files differ from it. "unknown" outside a checkout."""
    try:
        here = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks.md")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{here} with changes" if changed else here


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=GIT_TIMEOUT_SECONDS,
        check=True,
    )
    return done.stdout.strip()


def _tree_seconds(root: psutil.Process) -> float:
    own = root.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in root.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # ended since: its parent has its time now, or will at the next look
            times = child.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return float(total)


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
