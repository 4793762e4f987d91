"""The part `bulk`: a million contacts into the record, and the graph anew from it. It comes last: the graph is another
one afterwards.
"""

import os
import random
from collections.abc import Iterator
from typing import Final

from bench import records
from bench.result import Figure, Part
from bench.running import Running
from bench.workload import FRESH, Pairing

NAME: Final = "bulk"
NEW_PEOPLE: Final = 0.6


async def measured(bench: Running) -> Part:
    """Raises BenchError if a command fails."""
    contacts = bench.plan.bulk_contacts
    url = await records.made(bench.stack.urls.database_url, NAME)
    env = {**os.environ, **bench.stack.urls.environment(), "DATABASE_URL": url}
    took = await records.imported(env, contact_rows(contacts, seed=bench.plan.seed))
    await records.settled(url)
    rebuilding = await records.ran(env, "rebuild-graph")
    figures = [
        Figure(f"import of {contacts:,} contacts", round(took, 1), "s", at_most=60),
        Figure("size of that record", await records.size_mb(url), "MB"),
        Figure(f"rebuild-graph of {contacts:,} contacts", round(rebuilding, 1), "s", at_most=240),
    ]
    return Part(NAME, figures)


def contact_rows(rows: int, *, seed: int) -> Iterator[Pairing]:
    """Rows that each make a contact: three in five a new person, the others a new identifier of one of them."""
    dice = random.Random(seed)  # noqa: S311 - it guards nothing
    people: list[int] = []
    for number in range(FRESH, FRESH + rows):
        if not people or dice.random() < NEW_PEOPLE:
            people.append(number)
            yield Pairing(number, number)
        else:
            yield Pairing(people[int(dice.random() * len(people))], number)
