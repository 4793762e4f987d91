"""The load generator: closed-loop clients in a process of their own, and what they saw.

Each client sends its next request when the last one was answered. Clients are callbacks on one event loop, not tasks:
the generator shares the machine with the servers, so what it costs is taken from them. It measures that, too.
"""

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from time import perf_counter, process_time
from typing import Any, Final, Generic

import uvloop

from nexus_graph.bench.arms import Arm, Asked, Echo, FamilyQuery, GraphQL, Rest
from nexus_graph.bench.client import CONNECT_TIMEOUT_SECONDS, Connection
from nexus_graph.bench.workload import Workload

RATE_MAX: Final = 100_000
"""Room is made for this many latencies a second, so that none is made while measuring."""
LAST_ANSWERS_SECONDS: Final = 15.0
WRONG_SHOWN_MAX: Final = 5


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Site:
    """What the load is aimed at."""

    api: Address
    echo: Address
    people: int
    families: Sequence[Sequence[int]]
    """Contact ids of the families that the `family` arm asks for."""
    clients: int
    seed: int


@dataclass(frozen=True)
class Load:
    """What was measured in a window of `seconds`; `requests` counts the warm-up too."""

    seconds: float
    latencies: "array[float]"
    """In seconds, of the answers that came within the window."""
    requests: int
    wrong: int
    wrong_shown: Sequence[str]
    cpu_seconds: float | None
    """The generator's own, in the window; None where it was not us who measured."""


class ClosedLoop(Generic[Asked]):
    """One measurement."""

    def __init__(self, arm: Arm[Asked], *, warmup_seconds: float, seconds: float) -> None:
        self.arm = arm
        self._warmup_seconds = warmup_seconds
        self._seconds = seconds
        self._latencies = array("d", bytes(8 * int(RATE_MAX * seconds)))
        self._measured = 0
        self._opens = self._closes = 0.0
        self._requests = 0
        self._wrong = 0
        self._wrong_shown: list[str] = []
        self._busy = 0
        self._idle = asyncio.Event()
        self._broken: Exception | None = None

    async def run(self, address: Address, *, clients: int) -> Load:
        """Raises ConnectionError if a client loses its connection, TimeoutError if the last answers do not come."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            lanes = [
                (await loop.create_connection(lambda: _Lane(self), address.host, address.port))[1]
                for _ in range(clients)
            ]
        self._busy = clients
        self._opens = perf_counter() + self._warmup_seconds
        self._closes = self._opens + self._seconds
        for lane in lanes:
            lane.fire(perf_counter())
        await asyncio.sleep(self._opens - perf_counter())
        cpu_before = process_time()
        await asyncio.sleep(self._closes - perf_counter())
        cpu_seconds = process_time() - cpu_before
        async with asyncio.timeout(LAST_ANSWERS_SECONDS):
            await self._idle.wait()
        for lane in lanes:
            lane.close()
        if self._broken is not None:
            raise self._broken
        latencies = self._latencies[: self._measured]
        return Load(self._seconds, latencies, self._requests, self._wrong, self._wrong_shown, cpu_seconds)

    def answered(self, lane: "_Lane[Asked]", problem: str | None, now: float) -> None:
        """One answer: write it down; let the client go on, or rest."""
        self._requests += 1
        if problem is not None:
            self._wrong += 1
            if len(self._wrong_shown) < WRONG_SHOWN_MAX:
                self._wrong_shown.append(problem)
        if now >= self._closes:
            self._rest()
            return
        if now >= self._opens:
            self._latencies[self._measured] = now - lane.sent
            self._measured += 1
        lane.fire(now)

    def lost(self, error: Exception) -> None:
        """A connection ended while its client was waiting."""
        self._broken = error
        self._closes = 0.0
        self._rest()

    def _rest(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self._idle.set()


class _Lane(Connection, Generic[Asked]):
    """One client."""

    def __init__(self, load: ClosedLoop[Asked]) -> None:
        super().__init__()
        self._load = load
        self._next = load.arm.next
        self._problem = load.arm.problem
        self._waiting = False
        self._asked: Asked
        self.sent = 0.0

    def fire(self, now: float) -> None:
        """Send the next request."""
        request, self._asked = self._next()
        self.sent = now
        self._waiting = True
        self.send(request)

    def answered(self, status: int, head: bytes, body: bytes) -> None:
        now = perf_counter()
        self._waiting = False
        self._load.answered(self, self._problem(self._asked, status, head, body), now)

    def lost(self, error: Exception) -> None:
        if self._waiting:
            self._waiting = False
            self._load.lost(error)


class Generator:
    """The arms and the population they share. It lives as long as the benchmark: what one arm learns, all know."""

    def __init__(self, site: Site) -> None:
        workload = Workload(people=site.people, seed=site.seed)
        api, echo = site.api.authority, site.echo.authority
        self._clients = site.clients
        self._arms: dict[str, tuple[Arm[Any], Address]] = {
            "rest": (Rest(workload, host=api), site.api),
            "graphql": (GraphQL(workload, host=api), site.api),
            "family": (FamilyQuery(site.families, host=api, seed=site.seed), site.api),
            "echo": (Echo(workload, host=echo), site.echo),
        }

    async def measure(self, arm: str, *, warmup_seconds: float, seconds: float) -> Load:
        """Run one arm. Raises what `ClosedLoop.run` raises."""
        driven, address = self._arms[arm]
        run = ClosedLoop(driven, warmup_seconds=warmup_seconds, seconds=seconds)
        return await run.run(address, clients=self._clients)


# What follows runs in the generator's own process, a worker of a ProcessPoolExecutor.

_generator: Generator | None = None


def start(site: Site) -> None:
    """Make this process the generator."""
    global _generator  # noqa: PLW0603 - a worker's state outlives its calls only here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for our parent, who ends us
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _generator = Generator(site)
    gc.disable()  # the population makes no cycles, and walking it would show up as latency


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def measure(arm: str, warmup_seconds: float, seconds: float) -> Load:
    """Run one arm in this process."""
    assert _generator is not None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_generator.measure(arm, warmup_seconds=warmup_seconds, seconds=seconds))
