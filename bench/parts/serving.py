"""The parts `scale` and `start`: POST /identify by how many clients ask at once and how many processes serve; how long
the command takes to say what it can, and the API to serve.
"""

import asyncio
import statistics
import sys
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Final

from bench.load.arms import Repeats, Rest
from bench.load.client import Address
from bench.load.workload import Crowd, preloaded
from bench.result import Figure, Part, percentiles_ms
from bench.servers import another_api
from bench.stack import DRAIN_SECONDS, Running

CLIENTS: Final = (1, 8, 32, 128)
WORKERS: Final = (1, 2)
SECONDS: Final = 4.0
WARMUP_SECONDS: Final = 1.0
HELP_STARTS: Final = 7
SERVE_STARTS: Final = 3


async def scale(bench: Running) -> Part:
    """Raises what a server that cannot start raises."""
    return await _Scale(bench).part()


async def start(bench: Running) -> Part:
    """Medians of several starts, the first of each left out: it reads from the disk what later ones find in memory."""
    begun = "nexus-graph serve, until /health says 200"
    helps = [await _help_seconds() for _ in range(HELP_STARTS + 1)]
    serves = [await _serve_seconds(bench, number) for number in range(SERVE_STARTS + 1)]
    return Part(
        "start",
        [
            Figure("nexus-graph --help", round(statistics.median(helps[1:]), 3), "s", at_most=0.25),
            Figure(begun, round(statistics.median(serves[1:]), 3), "s", at_most=1.5),
        ],
    )


class _Scale:
    def __init__(self, bench: Running) -> None:
        self._bench = bench
        self._runs = 0
        self._problems: list[str] = []

    async def part(self) -> Part:
        api = self._bench.site.addresses["api"]
        figures: list[Figure] = []
        for clients in CLIENTS:
            figures += await self._figures(api, f"{clients} clients", clients)
        async with AsyncExitStack() as closing:
            for workers in WORKERS:
                name = f"{workers} workers"
                server = await closing.enter_async_context(
                    another_api(self._bench.stack, f"scale-{workers}", {}, "--workers", str(workers))
                )
                figures += await self._figures(server.address, name, self._bench.plan.clients)
        await self._bench.drained(timeout_seconds=DRAIN_SECONDS)
        return Part("scale", figures, problems=self._problems)

    async def _figures(self, api: Address, name: str, clients: int) -> list[Figure]:
        mixed = Rest(self._crowd(), host=api.authority)
        known = Repeats(list(preloaded(self._bench.plan.people)), host=api.authority)
        figures = []
        for what, arm in (("mix", mixed), ("known", known)):
            load = await self._bench.drive(arm, api, clients=clients, seconds=SECONDS, warmup_seconds=WARMUP_SECONDS)
            if load.wrong:
                self._problems.append(f"scale: wrong answers, such as {load.wrong_shown[0]}")
            figures.append(Figure(f"{name}, {what}", load.rate, "req/s"))
            figures.append(Figure(f"{name}, {what}: p50", percentiles_ms(load.latencies)["p50_ms"], "ms"))
        return figures

    def _crowd(self) -> Crowd:
        """The mix without unions: the other arms have used up the people that may be united."""
        self._runs += 1
        return Crowd(
            people=self._bench.plan.people,
            run=self._runs,
            runs=self._bench.plan.people,
            seed=self._bench.plan.seed,
        )


async def _help_seconds() -> float:
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nexus_graph", "--help"), stdout=asyncio.subprocess.DEVNULL
    )
    await process.wait()
    return perf_counter() - began


async def _serve_seconds(bench: Running, number: int) -> float:
    began = perf_counter()
    async with another_api(bench.stack, f"start-{number}", {}):
        return perf_counter() - began
