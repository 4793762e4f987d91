"""The parts `growth` and `bulk`: records of millions of contacts.

`growth`: what identify takes on a small record, and on one of millions of contacts. Both are on the same PostgreSQL and
are measured by turns, each through an API of its own. No relay listens to them: identify alone is measured.

`bulk`: a million contacts into an empty record, and the graph again from that record. This part comes last: the graph
is another one afterwards.
"""

import os
import random
import statistics
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Final

from bench import record
from bench.load.arms import Rest
from bench.load.loops import Load
from bench.load.workload import FRESH, Crowd, Pairing, preloaded
from bench.result import Figure, Part, percentiles_ms
from bench.servers import Server, another_api
from bench.stack import Running

PEOPLE_BEFORE: Final = 10_000
ROUNDS: Final = 3
SECONDS: Final = 4.0
WARMUP_SECONDS: Final = 1.0
NEW_PEOPLE: Final = 0.6
"""Share of the imported rows that bring a new person; the others bring a new identifier of a known one."""


async def growth(bench: Running) -> Part:
    """Raises BenchError if the import fails."""
    sizes = (PEOPLE_BEFORE, bench.plan.growth_people)
    figures: list[Figure] = []
    loads: dict[int, list[Load]] = {people: [] for people in sizes}
    async with AsyncExitStack() as closing:
        servers: dict[int, Server] = {}
        for people in sizes:
            url = await record.made(bench.stack.urls.database_url, f"growth_{people}")
            env = {**os.environ, **bench.stack.urls.environment(), "DATABASE_URL": url}
            took = await record.imported(env, preloaded(people))
            await record.settled(url)
            figures.append(Figure(f"import of {people:,} people", round(took, 1), "s"))
            api = another_api(bench.stack, f"growth-{people}", {"DATABASE_URL": url})
            servers[people] = await closing.enter_async_context(api)
        for number in range(ROUNDS):
            for people in sizes:
                loads[people].append(await _load(bench, servers[people], people, number))
    medians = {people: _median_ms(each) for people, each in loads.items()}
    figures += [Figure(f"{people:,} contacts: identify p50", medians[people], "ms") for people in sizes]
    grown = round(medians[sizes[1]] / medians[sizes[0]], 2)
    figures.append(Figure("that is", grown, "times as long", at_most=1.3))
    wrong = [load for each in loads.values() for load in each if load.wrong]
    return Part("growth", figures, problems=[f"growth: wrong answers, such as {load.wrong_shown[0]}" for load in wrong])


async def bulk(bench: Running) -> Part:
    """Raises BenchError if a command fails."""
    contacts = bench.plan.bulk_contacts
    url = await record.made(bench.stack.urls.database_url, "bulk")
    env = {**os.environ, **bench.stack.urls.environment(), "DATABASE_URL": url}
    took = await record.imported(env, contact_rows(contacts, seed=bench.plan.seed))
    await record.settled(url)
    rebuilding = await record.ran(env, "rebuild-graph")
    figures = [
        Figure(f"import of {contacts:,} contacts", round(took, 1), "s", at_most=60),
        Figure("size of that record", await record.size_mb(url), "MB"),
        Figure(f"rebuild-graph of {contacts:,} contacts", round(rebuilding, 1), "s", at_most=240),
    ]
    return Part("bulk", figures)


def contact_rows(rows: int, *, seed: int) -> Iterator[Pairing]:
    """Rows that each make a contact: three in five a new person, the others a new identifier of a known one."""
    dice = random.Random(seed)  # noqa: S311 - it guards nothing
    people: list[int] = []
    for number in range(FRESH, FRESH + rows):
        if not people or dice.random() < NEW_PEOPLE:
            people.append(number)
            yield Pairing(number, number)
        else:
            yield Pairing(people[int(dice.random() * len(people))], number)


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
