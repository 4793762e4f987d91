"""Subscribers that never read: each is cut, and what the process holds for all of them together is bounded."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from nexus_graph.api.http import followers
from nexus_graph.api.http.write_buffers import EACH_MAX_BYTES
from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from nexus_graph.telemetry import SUBSCRIBERS_CUT
from tests.stage.followers import CARRIERS, EVENTS, follower
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.running import ApiServer, RunningServer, stoppable_api

WIDE = EVENTS.replace("sequence", "sequence " + " ".join(f"{'a' * 300}{number}: kind" for number in range(15)))
MESSAGE_BYTES = 8 * 1024
"""More than one event by that query takes on the wire."""
RECEIVE_BYTES = 4 * 1024
STUCK = 8


@pytest.fixture(autouse=True)
async def events(pool: Pool) -> None:
    """More than the kernels on both sides take for a client that does not read."""
    await pool.execute(
        "INSERT INTO identity_events (seq, at, kind, family_id, contact_id) "
        "SELECT n, now(), 'contact_created', 1000000000 + n, n FROM generate_series(1, 4000) AS n"
    )


@pytest.fixture
def swift(settings: Settings) -> Settings:
    """Followers get all of the process's time: what they do not take is there sooner."""
    return settings.model_copy(update={"feed_catch_up_share": 1.0})


@asynccontextmanager
async def stuck(server: ApiServer, protocol: str, count: int) -> AsyncIterator[list[socket.socket]]:
    """As many subscribers, one after another, that have read nothing but that they were let in."""
    async with AsyncExitStack() as clients:
        yield [
            clients.enter_context(
                await asyncio.to_thread(follower, server.host, server.port, protocol, WIDE, receive_bytes=RECEIVE_BYTES)
            )
            for _ in range(count)
        ]


def owed(server: RunningServer) -> list[int]:
    """What each connection was sent and has yet to take, as far as this process holds it."""
    connections: set[Any] = server.server_state.connections
    return [connection.transport.get_write_buffer_size() for connection in connections]


def cut(transport: str) -> float:
    """How many subscribers were cut so far."""
    return float(SUBSCRIBERS_CUT.labels(transport)._value.get())


async def until(done: Callable[[], bool]) -> None:
    """Return once that is so. A client that does not read hears of nothing, and cannot wait for a signal."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not done():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0)


@pytest.mark.parametrize("protocol", CARRIERS)
async def test_one_that_never_reads_is_ended(swift: Settings, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never take what is still to be sent, nor the reason: its connection is dropped all the same."""
    monkeypatch.setattr(followers, "MESSAGE_SECONDS", 0.5)
    monkeypatch.setattr("nexus_graph.api.http.connections.SEND_SECONDS", 0.5)
    before = cut(protocol)
    most: list[int] = []
    async with stoppable_api(swift) as (server, running), stuck(server, protocol, 1):
        while owing := owed(running):
            most = max(most, owing)
            await until(lambda owing=owing: owed(running) != owing)  # type: ignore[misc]
    assert cut(protocol) == before + 1
    assert EACH_MAX_BYTES < most[0] <= EACH_MAX_BYTES + MESSAGE_BYTES


@pytest.mark.parametrize("protocol", CARRIERS)
async def test_all_that_never_read_are_owed_no_more_than_is_set(
    swift: Settings, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as are too much are dropped at once, and no others: each may be owed a little more than its own limit, so
    three are within the sum of four limits.
    """
    monkeypatch.setattr(followers, "MESSAGE_SECONDS", 600.0)
    bounded = swift.model_copy(update={"sockets_owed_max_bytes": 4 * EACH_MAX_BYTES})
    before = cut("owed")
    async with stoppable_api(bounded) as (server, running), stuck(server, protocol, STUCK):
        await until(lambda: cut("owed") == before + STUCK - 3)
        await until(lambda: len(owed(running)) == 3)
        left = owed(running)
    assert EACH_MAX_BYTES * 3 < sum(left) <= bounded.sockets_owed_max_bytes
    assert cut("owed") == before + STUCK - 3
