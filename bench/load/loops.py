"""Loads, closed and open: clients on one event loop, and what they saw.

Clients are callbacks, not tasks: the generator shares the machine with the servers, so what it costs is taken from
them. It measures that, too.
"""

import asyncio
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter, process_time
from typing import Final, Generic

from bench.load.arms import Arm, Asked
from bench.load.client import CONNECT_TIMEOUT_SECONDS, Address, Connection

RATE_MAX: Final = 100_000
"""Room is made for this many latencies a second, so that none is made while measuring."""
LAST_ANSWERS_SECONDS: Final = 15.0
WRONG_SHOWN_MAX: Final = 5
OPEN_STEP_SECONDS: Final = 0.001
"""The event loop wakes no oftener: a request may be sent this much late, and its latency counts that too."""


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
    lateness: "array[float]" = field(default_factory=lambda: array("d"))
    """In seconds, how much later than meant an open load's requests were sent; empty for a closed loop."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return round(len(self.latencies) / self.seconds, 1)


class Loop(ABC, Generic[Asked]):
    """One measurement. How requests are timed is what the two below differ in."""

    def __init__(self, arm: Arm[Asked], *, warmup_seconds: float, seconds: float, rate_max: float = RATE_MAX) -> None:
        self.arm = arm
        self._warmup_seconds = warmup_seconds
        self._seconds = seconds
        self._latencies = array("d", bytes(8 * int(rate_max * seconds)))
        self._measured = 0
        self._opens = self._closes = 0.0
        self._requests = 0
        self._wrong = 0
        self._wrong_shown: list[str] = []
        self._idle = asyncio.Event()
        self._broken: Exception | None = None

    async def run(self, address: Address, *, clients: int) -> Load:
        """Raises ConnectionError if a client loses its connection, TimeoutError if the last answers do not come."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            lanes = [
                (await loop.create_connection(lambda: Lane(self), address.host, address.port))[1]
                for _ in range(clients)
            ]
        began = perf_counter()
        self._opens = began + self._warmup_seconds
        self._closes = self._opens + self._seconds
        self._begin(lanes, began)
        await asyncio.sleep(self._opens - perf_counter())
        cpu_before = process_time()
        await asyncio.sleep(self._closes - perf_counter())
        cpu_seconds = process_time() - cpu_before
        try:
            async with asyncio.timeout(LAST_ANSWERS_SECONDS):
                await self._idle.wait()
        finally:
            for lane in lanes:
                lane.close()
        if self._broken is not None:
            raise self._broken
        return self._load(cpu_seconds)

    @abstractmethod
    def answered(self, lane: "Lane[Asked]", problem: str | None, now: float) -> None:
        """One answer: write it down, and let the client go on, or rest."""

    @abstractmethod
    def lost(self, error: Exception) -> None:
        """A connection ended while its client was waiting."""

    @abstractmethod
    def _begin(self, lanes: "Sequence[Lane[Asked]]", now: float) -> None:
        """Let the clients send their first requests."""

    def _load(self, cpu_seconds: float) -> Load:
        latencies = self._latencies[: self._measured]
        return Load(self._seconds, latencies, self._requests, self._wrong, self._wrong_shown, cpu_seconds)

    def _count(self, problem: str | None) -> None:
        self._requests += 1
        if problem is not None:
            self._wrong += 1
            if len(self._wrong_shown) < WRONG_SHOWN_MAX:
                self._wrong_shown.append(problem)


class ClosedLoop(Loop[Asked]):
    """Each client sends its next request when its last one was answered."""

    _busy = 0

    def answered(self, lane: "Lane[Asked]", problem: str | None, now: float) -> None:
        self._count(problem)
        if now >= self._closes:
            self._rest()
            return
        if now >= self._opens:
            self._latencies[self._measured] = now - lane.since
            self._measured += 1
        lane.fire(now)

    def lost(self, error: Exception) -> None:
        self._broken = error
        self._closes = 0.0
        self._rest()

    def _begin(self, lanes: "Sequence[Lane[Asked]]", now: float) -> None:
        self._busy = len(lanes)
        for lane in lanes:
            lane.fire(now)

    def _rest(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self._idle.set()


class OpenLoop(Loop[Asked]):
    """Requests are due at even intervals, whether or not earlier ones were answered, and their latency counts from when
    they were due: a server that stalls is charged with every request that came meanwhile.
    """

    def __init__(self, arm: Arm[Asked], *, rate: float, warmup_seconds: float, seconds: float) -> None:
        """`rate`: how many a second."""
        super().__init__(arm, warmup_seconds=warmup_seconds, seconds=seconds, rate_max=rate + 1 / seconds)
        self._rate = rate
        self._began = 0.0
        self._due = 0
        self._waiting: deque[float] = deque()
        self._free: deque[Lane[Asked]] = deque()
        self._busy = 0
        self._lateness = array("d")

    def answered(self, lane: "Lane[Asked]", problem: str | None, now: float) -> None:
        self._count(problem)
        if self._opens <= lane.since < self._closes and self._measured < len(self._latencies):
            self._latencies[self._measured] = now - lane.since
            self._measured += 1
        self._busy -= 1
        self._free.append(lane)
        self._send()

    def lost(self, error: Exception) -> None:
        self._broken = error
        self._idle.set()

    def _begin(self, lanes: "Sequence[Lane[Asked]]", now: float) -> None:
        self._free.extend(lanes)
        self._began = now
        self._tick()

    def _tick(self) -> None:
        now = perf_counter()
        while (due := self._began + self._due / self._rate) <= now and due < self._closes:
            self._waiting.append(due)
            self._due += 1
        self._send()
        if due < self._closes and self._broken is None:
            asyncio.get_running_loop().call_later(max(OPEN_STEP_SECONDS, due - perf_counter()), self._tick)

    def _send(self) -> None:
        while self._waiting and self._free and self._broken is None:
            due = self._waiting.popleft()
            self._busy += 1
            self._free.popleft().fire(due)
            if due >= self._opens:
                self._lateness.append(perf_counter() - due)
        if not self._busy and self._began + self._due / self._rate >= self._closes:
            self._idle.set()

    def _load(self, cpu_seconds: float) -> Load:
        return replace(super()._load(cpu_seconds), lateness=self._lateness)


class Lane(Connection, Generic[Asked]):
    """One connection under a load."""

    def __init__(self, load: Loop[Asked]) -> None:
        super().__init__()
        self._load = load
        self._next = load.arm.next
        self._problem = load.arm.problem
        self._waiting = False
        self._asked: Asked
        self.since = 0.0
        """From when the latency of the request under way counts."""

    def fire(self, since: float) -> None:
        """Send the next request."""
        request, self._asked = self._next()
        self.since = since
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
