"""What exists cannot be told by how long a refusal takes: objects out of sight (S8), emails (S9), keys."""

import random
from collections.abc import Awaitable, Callable
from math import erfc, sqrt
from pathlib import Path
from statistics import median
from time import perf_counter

import httpx2
import pytest

from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role
from tests.stage.callers import bearing, key_for
from tests.stage.running import ServeProcess, running_relay

pytestmark = pytest.mark.drill

TIMES = 2_000
WARM_UP = 300
P_MIN, DIFFERENCE_MAX_MS = 0.01, 0.2
"""Either the two samples may well be of one distribution, or nobody could use their difference."""
PEOPLE = 200
OPEN = '{"service": "off", "steward": "off"}'

Ask = Callable[[int], Awaitable[None]]


def mann_whitney_p(one: list[float], other: list[float]) -> float:
    """The two-sided p of the U test, by its normal approximation; ties share their rank."""
    ranked = sorted([(took, 0) for took in one] + [(took, 1) for took in other])
    ranks, ties, place = 0.0, 0.0, 0
    while place < len(ranked):
        end = place
        while end < len(ranked) and ranked[end][0] == ranked[place][0]:
            end += 1
        alike, rank = end - place, (place + end + 1) / 2
        ranks += rank * sum(1 for _, of in ranked[place:end] if of == 0)
        ties += alike**3 - alike
        place = end
    n, m = len(one), len(other)
    u = ranks - n * (n + 1) / 2
    variance = n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1)))
    return erfc(abs(u - n * m / 2) / sqrt(variance) / sqrt(2))


def test_the_statistic_tells_what_it_should(rng: random.Random) -> None:
    one, same, slower = ([rng.lognormvariate(0, 0.3) + more for _ in range(TIMES)] for more in (0.0, 0.0, 0.1))
    assert mann_whitney_p(one, same) > 1e-4
    assert mann_whitney_p(one, slower) < 1e-6
    assert mann_whitney_p([1.0, 2.0], [1.0, 2.0]) == pytest.approx(1.0)


async def compared(name: str, one: Ask, other: Ask, rng: random.Random) -> None:
    """Hold that the two cannot be told apart; they are asked in an order of chance."""
    took: dict[Ask, list[float]] = {one: [], other: []}
    order = [one, other] * TIMES
    rng.shuffle(order)
    for number in range(WARM_UP):
        await one(number)
        await other(number)
    for number, ask in enumerate(order):
        began = perf_counter()
        await ask(number)
        took[ask].append(1_000 * (perf_counter() - began))
    p, difference_ms = mann_whitney_p(took[one], took[other]), median(took[one]) - median(took[other])
    print(f"{name}: p {p:.3g}, medians differ by {difference_ms:+.4f} ms of {median(took[one]):.3f} ms")
    assert p > P_MIN or abs(difference_ms) < DIFFERENCE_MAX_MS, name


async def test_times_tell_nothing(settings: Settings, project: Path, rng: random.Random) -> None:
    service, steward = await key_for(settings, Role.SERVICE), await key_for(settings, Role.STEWARD)
    serving = await ServeProcess.start(
        settings, project, NEXUS_AUTH="on", NEXUS_RATE_LIMITS=OPEN, NEXUS_RATE_LIMIT="off", NEXUS_CACHE="off"
    )
    url = await serving.url()
    async with serving.ending(), running_relay(settings), httpx2.AsyncClient(base_url=url, timeout=30) as client:
        for number in range(PEOPLE):
            body = {"email": f"person{number}@example.com"}
            (await client.post("/identify", json=body, headers=bearing(steward))).raise_for_status()

        def reads(query: str, **of: Callable[[int], str]) -> Ask:
            (variable, value), *_ = of.items()

            async def ask(number: int) -> None:
                body = {"query": query, "variables": {variable: value(number)}}
                await client.post("/graphql", json=body, headers=bearing(service))

            return ask

        def presents(text: str) -> Ask:
            async def ask(_number: int) -> None:
                await client.post("/identify", json={}, headers=bearing(text))

            return ask

        contact = "query($id: ID!) { contact(id: $id) { id } }"
        family = "query($id: ID!) { contactFamily(by: {contactId: $id}, source: RECORD) { id } }"
        for name, query in (("contact", contact), ("family of the record", family)):
            exists = reads(query, id=lambda number: str(1 + number % PEOPLE))
            absent = reads(query, id=lambda number: str(1_000_000 + number % PEOPLE))
            await compared(f"S8 {name}: out of sight, absent", exists, absent, rng)
        known_id, unknown_id = f"{service[:17]}{'0' * 72}", f"nxk_{'0' * 12}_{'0' * 72}"
        await compared("keys: known id, unknown id", presents(known_id), presents(unknown_id), rng)
        lookup = "mutation($id: EmailAddress) { identify(input: {email: $id}) { __typename } }"
        operator = await key_for(settings, Role.OPERATOR)

        def refused(email: Callable[[int], str]) -> Ask:
            async def ask(number: int) -> None:
                body = {"query": lookup, "variables": {"id": email(number)}}
                await client.post("/graphql", json=body, headers=bearing(operator))

            return ask

        known = refused(lambda number: f"person{number % PEOPLE}@example.com")
        unknown = refused(lambda number: f"nobody{number % PEOPLE}@example.com")
        await compared("S9 email: known, unknown, to a caller who may not ask", known, unknown, rng)
