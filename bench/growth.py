"""The part `growth`: what identify takes on a small record, and on one of millions of contacts.

Both are on the same PostgreSQL and are measured by turns, each through an API of its own. No relay listens to them: it
is identify that is asked about.
"""

import os
import statistics
from contextlib import AsyncExitStack
from typing import Final

from bench import records
from bench.arms import Rest
from bench.beside import Server, another_api
from bench.load import Load
from bench.result import Figure, Part, percentiles_ms
from bench.running import Running
from bench.workload import Crowd, preloaded

NAME: Final = "growth"
PEOPLE_BEFORE: Final = 10_000
ROUNDS: Final = 3
SECONDS: Final = 4.0
WARMUP_SECONDS: Final = 1.0


async def measured(bench: Running) -> Part:
    """Raises BenchError if the import fails."""
    sizes = (PEOPLE_BEFORE, bench.plan.growth_people)
    figures: list[Figure] = []
    loads: dict[int, list[Load]] = {people: [] for people in sizes}
    async with AsyncExitStack() as closing:
        servers: dict[int, Server] = {}
        for people in sizes:
            url = await records.made(bench.stack.urls.database_url, f"{NAME}_{people}")
            env = {**os.environ, **bench.stack.urls.environment(), "DATABASE_URL": url}
            took = await records.imported(env, preloaded(people))
            await records.settled(url)
            figures.append(Figure(f"import of {people:,} people", round(took, 1), "s"))
            api = another_api(bench.stack, f"{NAME}-{people}", {"DATABASE_URL": url})
            servers[people] = await closing.enter_async_context(api)
        for number in range(ROUNDS):
            for people in sizes:
                loads[people].append(await _load(bench, servers[people], people, number))
    medians = {people: _median_ms(each) for people, each in loads.items()}
    figures += [Figure(f"{people:,} contacts: identify p50", medians[people], "ms") for people in sizes]
    grown = round(medians[sizes[1]] / medians[sizes[0]], 2)
    figures.append(Figure("that is", grown, "times as long", at_most=1.3))
    wrong = [load for each in loads.values() for load in each if load.wrong]
    return Part(NAME, figures, problems=[f"{NAME}: wrong answers, such as {load.wrong_shown[0]}" for load in wrong])


async def _load(bench: Running, server: Server, people: int, number: int) -> Load:
    crowd = Crowd(people=people, run=number, runs=ROUNDS, seed=bench.plan.seed)
    return await bench.drive(
        Rest(crowd, host=server.address.authority),
        server.address,
        clients=bench.plan.clients,
        seconds=SECONDS,
        warmup_seconds=WARMUP_SECONDS,
    )


def _median_ms(loads: list[Load]) -> float:
    return round(statistics.median(percentiles_ms(load.latencies)["p50_ms"] for load in loads), 2)
