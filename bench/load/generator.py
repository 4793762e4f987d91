"""The load generator, a process of its own: every arm that is driven over HTTP, and the population that they share."""

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, Final

import uvloop

from bench.load.arms import Arm, Echo, FamilyQuery, GraphQL, Known, Original, Rest, Typename
from bench.load.client import Address
from bench.load.loops import ClosedLoop, Load, OpenLoop
from bench.load.workload import Hotspot, Workload
from bench.plan import GUARDED_ARMS

OPEN_CONNECTIONS: Final = 128
"""An open load waits for a free one when all of these are under way; its latencies count that wait."""


@dataclass(frozen=True)
class Site:
    """What the load is aimed at."""

    addresses: Mapping[str, Address]
    """By server: the API, and those of some arms."""
    people: int
    families: Sequence[Sequence[int]]
    """Contact ids of the families that the `family` arm asks for."""
    family_bytes: int
    """How long an answer about one of them is."""
    clients: int
    open_rate: float
    """Requests a second that an open load offers."""
    seed: int
    key: str | None = None
    """An API key, for the arms whose server asks for one."""


class Generator:
    """The arms and the population they share. It lives as long as the benchmark: what one arm learns, all know."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._workload = Workload(people=site.people, seed=site.seed)
        self._arms: dict[str, Arm[Any]] = {}

    async def measure(self, arm: str, *, warmup_seconds: float, seconds: float) -> Load:
        """Run one arm. Raises what `Loop.run` raises."""
        if arm not in self._arms:
            self._arms[arm] = self._made(arm)
        driven, address = self._arms[arm], self._site.addresses[server_of(arm)]
        if arm == "open":
            rate = self._site.open_rate
            offered = OpenLoop(driven, rate=rate, warmup_seconds=warmup_seconds, seconds=seconds)
            return await offered.run(address, clients=OPEN_CONNECTIONS)
        loop = ClosedLoop(driven, warmup_seconds=warmup_seconds, seconds=seconds)
        return await loop.run(address, clients=self._site.clients)

    def _made(self, arm: str) -> Arm[Any]:
        site, workload = self._site, self._workload
        host = site.addresses[server_of(arm)].authority
        make: dict[str, Callable[[], Arm[Any]]] = {
            "rest": lambda: Rest(workload, host=host),
            "open": lambda: Rest(workload, host=host),
            "known": lambda: Known(workload, host=host),
            "rest_guarded": lambda: Rest(workload, host=host, key=site.key),
            "known_guarded": lambda: Known(workload, host=host, key=site.key),
            "hot": lambda: Rest(Hotspot(seed=site.seed), host=host),
            # Its database knows only the people loaded before, and what this arm sent.
            "express": lambda: Original(Workload(people=site.people, seed=site.seed), host=host),
            "express_plain": lambda: Original(Workload(people=site.people, seed=site.seed), host=host),
            "graphql": lambda: GraphQL(workload, host=host),
            "family": lambda: FamilyQuery(site.families, host=host, seed=site.seed),
            "family_alone": lambda: FamilyQuery(site.families, host=host, seed=site.seed),
            "family_cached": lambda: FamilyQuery(site.families, host=host, seed=site.seed),
            "typename": lambda: Typename(host=host),
            "typename_sized": lambda: Typename(host=host, answer_bytes=site.family_bytes),
            "echo": lambda: Echo(workload, host=host),
        }
        return make[arm]()


def server_of(arm: str) -> str:
    """Which server an arm is sent to."""
    return GUARDED if arm in GUARDED_ARMS else arm if arm in OWN_SERVERS else "api"


OWN_SERVERS: Final = frozenset({"echo", "express", "express_plain", "family_alone", "family_cached"})
"""Arms that have a server of their own name."""

GUARDED: Final = "guarded"
"""The API that asks for keys, counts calls and keeps the audit trail."""


# What follows runs in the generator's own process, a worker of a ProcessPoolExecutor.

_generator: Generator | None = None


def start(site: Site) -> None:
    """Make this process the generator."""
    global _generator  # noqa: PLW0603 - a worker's state outlives its calls only here
    become_worker()
    _generator = Generator(site)
    gc.disable()  # the population makes no cycles, and walking it would show up as latency


def become_worker() -> None:
    """Live as long as our parent, whatever ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for our parent, who ends us
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def measure(arm: str, warmup_seconds: float, seconds: float) -> Load:
    """Run one arm in this process."""
    assert _generator is not None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_generator.measure(arm, warmup_seconds=warmup_seconds, seconds=seconds))


def drive(arm: Arm[Any], address: Address, clients: int, warmup_seconds: float, seconds: float) -> Load:
    """Run an arm that is none of the generator's own in this process."""
    run = ClosedLoop(arm, warmup_seconds=warmup_seconds, seconds=seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run.run(address, clients=clients))
