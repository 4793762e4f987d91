"""The part `scale`: POST /identify by how many clients ask at once, and by how many processes serve."""

from contextlib import AsyncExitStack
from typing import Final

from bench.arms import Repeats, Rest
from bench.beside import another_api
from bench.load import Address, Load
from bench.result import Figure, Part, percentiles_ms
from bench.running import DRAIN_SECONDS, Running
from bench.workload import Crowd, preloaded

NAME: Final = "scale"
CLIENTS: Final = (1, 8, 32, 128)
WORKERS: Final = (1, 2)
SECONDS: Final = 4.0
WARMUP_SECONDS: Final = 1.0


async def measured(bench: Running) -> Part:
    """Raises what a server that cannot start raises."""
    return await _Scale(bench).part()


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
                    another_api(self._bench.stack, f"{NAME}-{workers}", {}, "--workers", str(workers))
                )
                figures += await self._figures(server.address, name, self._bench.plan.clients)
        await self._bench.drained(timeout_seconds=DRAIN_SECONDS)
        return Part(NAME, figures, problems=self._problems)

    async def _figures(self, api: Address, name: str, clients: int) -> list[Figure]:
        mixed = Rest(self._crowd(), host=api.authority)
        known = Repeats(list(preloaded(self._bench.plan.people)), host=api.authority)
        figures = []
        for what, arm in (("mix", mixed), ("known", known)):
            load = await self._bench.drive(arm, api, clients=clients, seconds=SECONDS, warmup_seconds=WARMUP_SECONDS)
            if load.wrong:
                self._problems.append(f"{NAME}: wrong answers, such as {load.wrong_shown[0]}")
            figures.append(Figure(f"{name}, {what}", _rate(load), "req/s"))
            figures.append(Figure(f"{name}, {what}: p50", percentiles_ms(load.latencies)["p50_ms"], "ms"))
        return figures

    def _crowd(self) -> Crowd:
        """The mix without unions: the other arms have used up whom they may unite."""
        self._runs += 1
        return Crowd(
            people=self._bench.plan.people,
            run=self._runs,
            runs=self._bench.plan.people,
            seed=self._bench.plan.seed,
        )


def _rate(load: Load) -> float:
    return round(len(load.latencies) / load.seconds, 1)
