"""Followers who replay a long feed, and followers who never read: a caller who identifies notices neither."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit

import httpx2
import pytest

from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from tests.integration.test_subscriptions import EVENTS as EVENTS_QUERY
from tests.integration.test_subscriptions import socket, subscribe
from tests.stage.followers import CARRIERS
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.running import ApiServer, ServeProcess

pytestmark = pytest.mark.drill

EVENTS = 300_000
MILLION = 1_000_000
CALLS = 200
ROUNDS = 5
READING, STUCK = 20, 20
RATIO_MAX = 1.5
GROWTH_MAX_MB = 40
FLAT_MB = 10

_numbers = count()


async def fill(pool: Pool, events: int) -> None:
    """A long feed."""
    await pool.execute(
        "INSERT INTO identity_events (seq, at, kind, family_id, contact_id) "
        "SELECT n, now(), 'contact_created', 1000000000 + n, n FROM generate_series(1, $1::int) AS n",
        events,
    )
    await pool.execute("SELECT setval('change_seq', $1)", events)
    await pool.execute("ANALYZE identity_events")


@asynccontextmanager
async def followers(url: str, project: Path, protocol: str, *, reading: int, stuck: int) -> AsyncIterator[list[int]]:
    """As many followers, subscribed. The list holds afterwards how many bytes they read."""
    address = urlsplit(url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.stage.followers", str(address.hostname), str(address.port), protocol, str(reading),
        str(stuck), cwd=project, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await process.stdout.readline() == b"subscribed\n"
    read: list[int] = []
    try:
        yield read
    finally:
        told, _ = await process.communicate(b"")
        read.append(int(told))


async def identify_p50_ms(api: httpx2.AsyncClient) -> float:
    """The median of calls one after another, each for a person unheard of."""
    took = []
    for _ in range(CALLS):
        began = perf_counter()
        answer = await api.post("/identify", json={"email": f"person{next(_numbers)}@example.com"})
        took.append(1_000 * (perf_counter() - began))
        assert answer.status_code == 200
    return median(took)


def resident_mb(pid: int) -> float:
    """What a process holds of the machine's memory."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the process is gone")


@asynccontextmanager
async def serving(
    settings: Settings, project: Path, **environment: str
) -> AsyncIterator[tuple[httpx2.AsyncClient, int]]:
    """A client of an API in a process of its own, and that process's id."""
    running = await ServeProcess.start(settings, project, **environment)
    try:
        async with httpx2.AsyncClient(base_url=await running.url(), timeout=PATIENCE_SECONDS) as api:
            yield api, running.process.pid
    finally:
        running.process.terminate()
        await running.process.wait()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("protocol", CARRIERS)
async def test_a_caller_does_not_notice_followers(settings: Settings, pool: Pool, project: Path, protocol: str) -> None:
    """Rounds of both, as the machine may be busy with other things in between."""
    await fill(pool, EVENTS)
    ratios, read_bytes = [], 0
    async with serving(settings, project) as (api, pid):
        await identify_p50_ms(api)  # warm
        alone_ms = await identify_p50_ms(api)
        before_mb = resident_mb(pid)
        for _ in range(ROUNDS):
            async with followers(str(api.base_url), project, protocol, reading=READING, stuck=STUCK) as read:
                beside_ms = await identify_p50_ms(api)
            again_ms = await identify_p50_ms(api)
            ratios.append(2 * beside_ms / (alone_ms + again_ms))
            read_bytes += read[0]
            print(f"identify p50 alone {alone_ms:.2f}, beside them {beside_ms:.2f}, alone {again_ms:.2f} ms")
            alone_ms = again_ms
        grown_mb = resident_mb(pid) - before_mb
    print(
        f"beside {READING} reading and {STUCK} stuck followers ({protocol}) identify takes {median(ratios):.2f} times "
        f"as long; they read {read_bytes / 1e6:.0f} MB; memory grew by {grown_mb:.0f} MB from {before_mb:.0f}"
    )
    assert read_bytes > 1_000_000, "they were served meanwhile"
    assert median(ratios) <= RATIO_MAX
    assert grown_mb <= GROWTH_MAX_MB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_a_subscription_keeps_nothing_of_a_million_events(settings: Settings, pool: Pool, project: Path) -> None:
    await fill(pool, MILLION)
    async with serving(settings, project, NEXUS_FEED_CATCH_UP_SHARE="1") as (api, pid):
        url = urlsplit(str(api.base_url))
        server = ApiServer(str(url.hostname), int(url.port or 0))
        async with socket(server, patience_seconds=200) as client:
            await subscribe(client, EVENTS_QUERY, after=0)
            began = perf_counter()
            sizes_mb = []
            for number in range(1, MILLION + 1):
                await client.recv()
                if number % (MILLION // 10) == 0:
                    sizes_mb.append(resident_mb(pid))
            seconds = perf_counter() - began
    print(
        f"a million events in {seconds:.0f} s; memory after each tenth: {', '.join(f'{one:.0f}' for one in sizes_mb)}"
    )
    assert sizes_mb[-1] - sizes_mb[0] <= FLAT_MB
