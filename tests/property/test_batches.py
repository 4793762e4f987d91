"""Batches of /v2 by many clients at once, beside single calls: linearizable, and each batch's rows in their order."""

import asyncio
import os
import random
from itertools import combinations
from time import monotonic
from typing import Any

import httpx2
import pytest

from nexus_graph.config import Settings
from nexus_graph.identity.ordered import Ordered
from nexus_graph.model import IdentifyRequest
from nexus_graph.store.database import Pool
from tests.property.fleet import fleet
from tests.property.history import Answered, final_state_violations, violations
from tests.stage.running import ApiServer

SERVERS = 2
CLIENTS = 8
BATCHES = 10
ROWS_MAX = 150
"""Several statements of a batch without a key."""


@pytest.fixture
def seed() -> int:
    """A new history each run; NEXUS_TEST_SEED repeats one."""
    return int(os.environ.get("NEXUS_TEST_SEED") or random.SystemRandom().randrange(2**32))


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with keys"])
@pytest.mark.parametrize("keys", [20, 20_000])
async def test_batches_are_linearizable_in_order(
    settings: Settings, pool: Pool, keys: int, seed: int, *, keyed: bool
) -> None:
    print(f"NEXUS_TEST_SEED={seed} keys={keys}")
    async with fleet(settings, SERVERS) as servers:
        history, batches = await record_batches(servers, keys=keys, seed=seed, keyed=keyed)
    assert violations(history) == []
    assert [found for batch in batches for found in out_of_order(batch)] == []
    assert await final_state_violations(pool, history) == []


async def test_rows_that_are_decided_backwards_are_caught(
    settings: Settings, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = Ordered.in_order

    async def backwards(self: Ordered, requests: list[IdentifyRequest]) -> list[Any]:
        return (await in_order(self, requests[::-1]))[::-1]

    monkeypatch.setattr(Ordered, "in_order", backwards)
    print(f"NEXUS_TEST_SEED={seed}")
    async with fleet(settings, 1) as servers:
        _, batches = await record_batches(servers, keys=20, seed=seed, keyed=False)
    assert [found for batch in batches for found in out_of_order(batch)]


def out_of_order(batch: list[Answered]) -> list[str]:
    """Rows of one batch that were answered by an older state of a family than a row before."""
    return [
        f"row {later.identifiers} was decided before row {earlier.identifiers}"
        for earlier, later in combinations(batch, 2)
        if not {*earlier.contacts}.isdisjoint(later.contacts) and (later.version or 0) < (earlier.version or 0)
    ]


async def record_batches(
    servers: list[ApiServer], *, keys: int, seed: int, keyed: bool
) -> tuple[list[Answered], list[list[Answered]]]:
    """What all calls were answered; and the rows of each batch."""
    chance = random.Random(seed)
    work = iter([[_row(chance, keys) for _ in range(chance.randint(1, ROWS_MAX))] for _ in range(CLIENTS * BATCHES)])
    singles = iter([_row(chance, keys) for _ in range(CLIENTS * BATCHES)])
    history: list[Answered] = []
    batches: list[list[Answered]] = []

    async def client(server: ApiServer, number: int) -> None:
        async with httpx2.AsyncClient(base_url=server.url, timeout=30) as api:
            for turn, rows in enumerate(work):
                headers = {"Idempotency-Key": f"{number}-{turn}"} if keyed else {}
                batches.append(await _batch(api, rows, headers))
                history.extend(batches[-1])
                history.append(await _single(api, next(singles)))

    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(client(servers[number % len(servers)], number))
    return history, batches


async def _batch(api: httpx2.AsyncClient, rows: list[dict[str, str]], headers: dict[str, str]) -> list[Answered]:
    sent = monotonic()
    response = await api.post("/v2/identify/batch", json={"rows": rows}, headers=headers)
    answered = monotonic()
    results = response.raise_for_status().json()["results"]
    return [_answered(sent, answered, row, result) for row, result in zip(rows, results, strict=True)]


async def _single(api: httpx2.AsyncClient, row: dict[str, str]) -> Answered:
    sent = monotonic()
    response = await api.post("/v2/identify", json=row)
    return _answered(sent, monotonic(), row, response.raise_for_status().json())


def _answered(sent: float, answered: float, row: dict[str, str], result: dict[str, Any]) -> Answered:
    assert result.get("status", 200) == 200, result
    family = result["family"]
    contacts = (family["primaryContact"], *family["secondaryContacts"])
    return Answered(
        sent,
        answered,
        row.get("email"),
        row.get("phoneNumber"),
        tuple(contact["databaseId"] for contact in contacts),
        tuple(family["emails"]),
        tuple(family["phoneNumbers"]),
        result["outcome"],
        result["version"],
    )


def _row(chance: random.Random, keys: int) -> dict[str, str]:
    row = {"email": f"e{chance.randrange(keys)}@example.com", "phoneNumber": f"555{chance.randrange(keys):06}"}
    if chance.random() < 0.2:
        del row[chance.choice(list(row))]
    return row
