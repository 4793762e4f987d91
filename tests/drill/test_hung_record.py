"""A record that hangs, with the settings that everybody has: how long until callers and probes are answered.

`make drill`. Each prints its figures; `pytest -s` shows them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from itertools import count
from time import monotonic

import httpx2
import pytest

from nexus_graph.config import Settings
from nexus_graph.identity.opening import RESOLVE_CONNECTIONS
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool
from tests.stage.running import running_api
from tests.stage.stopping import backends, stopped
from tests.stage.wire import wired

pytestmark = pytest.mark.drill

HUNG_SECONDS = 25
PROBE_SECONDS = 1.5
LATE_SECONDS = 0.5
"""What a busy machine may add to a deadline."""
CALLERS = 32
ADA = {"email": "ada@example.com", "phoneNumber": "123456"}
_numbers = count(1)


@asynccontextmanager
async def api_of(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=4 * CALLERS)
    async with (
        running_api(settings) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=4 * HUNG_SECONDS, limits=limits) as client,
    ):
        assert (await client.post("/identify", json=ADA)).status_code == 200
        assert (await client.post("/identify", json=ADA)).status_code == 200
        yield client


class Waits:
    """How long answers took, by status."""

    def __init__(self) -> None:
        self.longest: dict[int, float] = {}
        self.counts: dict[int, int] = {}

    async def ask(self, call: Awaitable[httpx2.Response]) -> None:
        began = monotonic()
        status = (await call).status_code
        self.longest[status] = max(self.longest.get(status, 0.0), monotonic() - began)
        self.counts[status] = self.counts.get(status, 0) + 1

    def __str__(self) -> str:
        return ", ".join(f"{self.counts[s]} x {s} within {self.longest[s]:.2f} s" for s in sorted(self.counts))


async def _asking(api: httpx2.AsyncClient, waits: Waits, *, known: bool, until: float) -> None:
    """One caller, who asks again as soon as he is answered."""
    while monotonic() < until:
        body = ADA if known else {"email": f"new{next(_numbers)}@example.com"}
        await waits.ask(api.post("/identify", json=body))
        await asyncio.sleep(0.05)


async def _probing(api: httpx2.AsyncClient, waits: dict[str, Waits], *, until: float) -> None:
    while monotonic() < until:
        await asyncio.gather(*(waits[path].ask(api.get(path)) for path in waits))
        await asyncio.sleep(0.2)


async def _measured(api: httpx2.AsyncClient, title: str, seconds: float) -> tuple[Waits, Waits, dict[str, Waits]]:
    new, known = Waits(), Waits()
    probes = {path: Waits() for path in ("/health", "/readyz", "/metrics")}
    until = monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(_asking(api, new, known=False, until=until))
        for _ in range(4):
            group.create_task(_asking(api, known, known=True, until=until))
        group.create_task(_probing(api, probes, until=until))
    print(f"\n{title}\n  new: {new}\n  known: {known}")
    for path, waits in probes.items():
        print(f"  {path}: {waits}")
        assert max(waits.longest.values()) <= PROBE_SECONDS
    return new, known, probes


async def _healed(api: httpx2.AsyncClient) -> float:
    began = monotonic()
    while (await api.post("/identify", json={"email": f"new{next(_numbers)}@example.com"})).status_code != 200:
        pass
    return monotonic() - began


async def test_the_writers_process_is_stopped(settings: Settings, pool: Pool) -> None:
    async with api_of(settings) as api:
        with stopped(await backends(pool, role="nexus_api", last="%FROM identify%")):
            new, known, _ = await _measured(api, "the backend that writes is stopped", HUNG_SECONDS)
        print(f"  healed after {await _healed(api):.2f} s")
    assert max(new.longest.values()) <= settings.identify_timeout_seconds + LATE_SECONDS
    assert set(known.counts) == {200}


async def test_another_writer_holds_the_lock_and_is_stopped(settings: Settings, pool: Pool) -> None:
    """As an import that was suspended: every writer waits for it, and known identities are answered."""
    async with api_of(settings) as api, pool.acquire() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT take_write_lock()")
        new, known, probes = await _measured(api, "the write lock is held", HUNG_SECONDS)
        await transaction.rollback()
        print(f"  healed after {await _healed(api):.2f} s")
    assert set(new.counts) == {503}
    assert max(new.longest.values()) <= settings.identify_timeout_seconds + LATE_SECONDS
    assert set(known.counts) == {200}
    assert set(probes["/metrics"].counts) == {200}


async def test_the_network_swallows_everything(settings: Settings, pool: Pool) -> None:
    async with wired(settings) as (through, wire), api_of(through) as api:
        wire.hang()
        new, known, probes = await _measured(api, "a black hole before PostgreSQL", HUNG_SECONDS)
        wire.flow()
        healed = await _healed(api)
        print(f"  healed after {healed:.2f} s")
        for waits in (new, known):
            assert set(waits.counts) == {503}
            assert max(waits.longest.values()) <= settings.identify_timeout_seconds + LATE_SECONDS
        assert set(probes["/health"].counts) == {503}
        assert healed <= settings.connect_timeout_seconds + settings.statement_timeout_seconds
        await wire.open_connections(settings.read_connections + RESOLVE_CONNECTIONS + 1)


async def test_the_processes_that_read_are_stopped(settings: Settings, pool: Pool) -> None:
    async with api_of(settings) as api:
        query = "{contacts(first: 1) {nodes {id}}}"
        await asyncio.gather(*(api.post("/graphql", json={"query": query}) for _ in range(CALLERS)))
        reading = await backends(pool, role="nexus_api", last=sql("contacts_by_time").splitlines()[0] + "%")
        assert len(reading) == settings.read_connections
        with stopped(reading):
            waits = Waits()
            until = monotonic() + HUNG_SECONDS
            async with asyncio.TaskGroup() as group:
                measuring = group.create_task(_measured(api, "the backends that read are stopped", HUNG_SECONDS))
                while monotonic() < until:
                    await waits.ask(api.post("/graphql", json={"query": query}))
            print(f"  lists: {waits}")
            new, known, probes = measuring.result()
    assert set(new.counts) == set(known.counts) == {200}
    assert set(probes["/health"].counts) == set(probes["/readyz"].counts) == {200}
    assert max(waits.longest.values()) <= settings.identify_timeout_seconds + LATE_SECONDS
