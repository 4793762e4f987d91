"""Connections that keep the server waiting are ended, the others go on, and none is lost as the server stops."""

import asyncio
import json
import random
import socket
from typing import cast

import httpx2
import pytest

from nexus_graph.api.http import connections as limits
from nexus_graph.app import App
from nexus_graph.config import Settings
from nexus_graph.identity.opening import RESOLVE_CONNECTIONS
from nexus_graph.store.database import Pool
from nexus_graph.telemetry import CONNECTIONS_CUT, CONNECTIONS_REFUSED
from tests.integration.test_direct import ADA, GRAPHQL, LOCK, TWICE, UNLOCK, answered, connected, posted
from tests.stage.running import ApiServer, both_ways, running_api, stoppable_api
from tests.stage.stopping import backends

pytestmark = both_ways

HEAD = b"POST /identify HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = posted(ADA)
BY_ASGI = posted(ADA, *TWICE)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has half a second for each part of a request."""
    for name in ("FIRST_BYTE_SECONDS", "HEADER_SECONDS", "BODY_SECONDS"):
        monkeypatch.setattr(limits, name, 0.5)


def cut(phase: str) -> float:
    """How many connections were cut in this phase so far."""
    return float(CONNECTIONS_CUT.labels(phase)._value.get())


def refused(cause: str) -> float:
    """How much was refused for this cause so far."""
    return float(CONNECTIONS_REFUSED.labels(cause)._value.get())


async def drip(writer: asyncio.StreamWriter, unit: bytes) -> None:
    """Send a bit of a request again and again, until the connection ends."""
    try:
        while True:
            writer.write(unit)
            await writer.drain()
            await asyncio.sleep(0.02)
    except OSError:
        pass


SLOW = [
    (b"", b"", "first_byte"),
    (b"\r\n", b"\r\n", "first_byte"),
    (b"P", b"", "header"),
    (HEAD, b"", "header"),
    (HEAD, b"X-More: x\r\n", "header"),
    (WHOLE[:-5], b"", "body"),
    (BY_ASGI[:-5], b"", "body"),
    (posted(GRAPHQL[0], path="/graphql")[:-5], b"", "body"),
    (CHUNKED, b"1\r\n \r\n", "body"),
    (HEAD + b"Content-Length: 60000\r\n\r\n", b" ", "body"),
]
"""What a client sends, what it sends again and again after that, and what is waited for meanwhile."""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("before", [b"", WHOLE, BY_ASGI], ids=["new", "reused", "reused by ASGI"])
async def test_a_request_that_comes_too_slowly_is_ended(settings: Settings, before: bytes) -> None:
    slow = settings.model_copy(update={"keep_alive_seconds": 1})
    cuts = {phase: cut(phase) for phase in ("first_byte", "header", "body")}
    async with running_api(slow) as server:
        told = await asyncio.gather(*(_sent_slowly(server, before, sent, more) for sent, more, _ in SLOW))
    for (sent, more, phase), answer in zip(SLOW, told, strict=True):
        if phase == "first_byte":
            assert answer == b""
            cuts[phase] += not before  # a reused connection is idle, and ends as such
            continue
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), (sent, more, answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nconnection: close" in head
        assert json.loads(body)["code"] == "REQUEST_TIMEOUT"
        cuts[phase] += 1
    assert {phase: cut(phase) for phase in cuts} == cuts


async def _sent_slowly(server: ApiServer, before: bytes, sent: bytes, more: bytes) -> bytes:
    """What a connection is answered that sends one whole request, and then another like this."""
    async with connected(server) as (reader, writer):
        if before:
            writer.write(before)
            assert (await answered(reader))[0].startswith(b"HTTP/1.1 200 ")
        writer.write(sent)
        dripping = asyncio.create_task(drip(writer, more))
        told = await reader.read()
        dripping.cancel()
        return told


@pytest.mark.usefixtures("quick")
async def test_a_slow_request_behind_another_is_ended_once_that_is_answered(settings: Settings, pool: Pool) -> None:
    async with (
        running_api(settings) as server,
        pool.acquire() as holder,
        connected(server) as (reader, writer),
    ):
        await holder.execute(LOCK)
        writer.write(posted(ADA) + HEAD)
        await asyncio.sleep(1.5)  # three times as long as a header may take
        await holder.execute(UNLOCK)
        head, _ = await answered(reader)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("quick")
async def test_a_request_that_takes_long_to_answer_is_not_ended(settings: Settings, pool: Pool) -> None:
    slow = settings.model_copy(update={"keep_alive_seconds": 1})
    async with (
        running_api(slow) as server,
        pool.acquire() as holder,
        connected(server) as (reader, writer),
        connected(server) as (asgi_reader, asgi),
    ):
        await holder.execute(LOCK)
        writer.write(posted({"email": "a@example.com"}))
        asgi.write(posted({"email": "b@example.com"}, *TWICE))
        await asyncio.sleep(2)  # longer than any limit on what a client may do
        await holder.execute(UNLOCK)
        for asked in (reader, asgi_reader):
            assert (await answered(asked))[0].startswith(b"HTTP/1.1 200 ")


@pytest.mark.usefixtures("quick")
async def test_a_stream_of_events_outlives_every_limit_on_requests(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.api.http.event_stream.KEEP_ALIVE_SECONDS", 0.5)
    slow = settings.model_copy(update={"keep_alive_seconds": 1})
    asked = {"query": "subscription { identityEvents { __typename } }"}
    async with running_api(slow) as server, connected(server) as (reader, writer):
        writer.write(posted(asked, "Accept: text/event-stream", path="/graphql"))
        for _ in range(5):
            await reader.readuntil(b":\n\n")


async def _ask_without_end(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await loop.sock_sendall(client, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n" * 5)


async def test_a_client_that_takes_no_answer_is_cut(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that asks on and on, and reads nothing: its answers fill what lies between us, and then it is cut."""
    cuts = cut("answer")
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(limits, "SEND_SECONDS", 0.5)
    async with running_api(settings) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, (server.host, server.port))
            asking = asyncio.create_task(_ask_without_end(client))
            with pytest.raises(OSError, match=r"reset|Broken"):
                await asking
    assert cut("answer") == cuts + 1


async def test_a_head_without_end_is_refused(settings: Settings) -> None:
    async with running_api(settings) as server, connected(server) as (reader, writer):
        dripping = asyncio.create_task(drip(writer, b"" + HEAD + b"X-Filler: " + b"x" * 8_000))
        told = await reader.read()
        dripping.cancel()
    assert told.startswith(b"HTTP/1.1 431 ")


async def test_the_longest_idle_connection_makes_room_for_a_new_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_ROOM_SECONDS", 0.0)
    async with running_api(settings.model_copy(update={"connections_max": 3})) as server:
        idle = [await asyncio.open_connection(server.host, server.port) for _ in range(3)]
        for reader, writer in reversed(idle):  # the last of them is the one that is idle longest
            writer.write(WHOLE)
            await answered(reader)
            await asyncio.sleep(0.02)
        async with connected(server) as (reader, writer):
            writer.write(WHOLE)
            assert (await answered(reader))[0].startswith(b"HTTP/1.1 200 ")
            assert await idle[2][0].read() == b""
            idle[0][1].write(WHOLE)
            assert (await answered(idle[0][0]))[0].startswith(b"HTTP/1.1 200 ")
        for _, writer in idle:
            writer.close()


async def test_past_the_limit_who_is_new_is_refused_and_an_operator_is_not(
    settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_SURPLUS_MAX", 2)
    before = refused("connections")
    async with running_api(settings.model_copy(update={"connections_max": 2})) as server, pool.acquire() as holder:
        busy = [await asyncio.open_connection(server.host, server.port) for _ in range(2)]
        await holder.execute(LOCK)
        for number, (_, writer) in enumerate(busy):
            writer.write(posted({"email": f"busy{number}@example.com"}))
        await _waiting(holder, 1)
        async with connected(server) as (reader, writer):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            head, _ = await answered(reader)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nconnection: close\r\n" in head
        for request in (WHOLE, BY_ASGI, b"GET /graphql HTTP/1.1\r\nHost: t\r\n\r\n"):
            async with connected(server) as (reader, writer):
                writer.write(request)
                told = await reader.read()
                assert told.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nretry-after: 1\r\n" in told
                assert b"\r\nconnection: close\r\n" in told
        waiting = [await asyncio.open_connection(server.host, server.port) for _ in range(2)]
        async with connected(server) as (reader, _):
            assert (await reader.read()).startswith(b"HTTP/1.1 503 "), "at once: there is no room to read what it asks"
        for _, writer in waiting:
            writer.close()
        await holder.execute(UNLOCK)
        for reader, writer in busy:
            assert (await answered(reader))[0].startswith(b"HTTP/1.1 200 ")
            writer.close()
    assert refused("connections") == before + 4


async def _waiting(holder: object, count: int) -> None:
    """Return once so many statements wait for the write lock."""
    sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    while await holder.fetchval(sql) < count:  # type: ignore[attr-defined]  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


async def test_a_stopping_server_answers_what_is_under_way_and_what_is_on_its_way(
    settings: Settings, pool: Pool
) -> None:
    """Every answer says that it is the connection's last; then the client sees the end, and never a reset."""
    async with pool.acquire() as holder, stoppable_api(settings) as (server, stopped):
        busy, idle, fresh = [await asyncio.open_connection(server.host, server.port) for _ in range(3)]
        idle[1].write(WHOLE)
        await answered(idle[0])
        await holder.execute(LOCK)
        busy[1].write(posted({"email": "busy@example.com"}))
        await _waiting(holder, 1)
        stopping = asyncio.create_task(stopped.stop())
        await cast("App", stopped.config.app).stopping.wait()
        for reader, writer in (idle, fresh):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            head, _ = await answered(reader)
            assert b"\r\nconnection: close\r\n" in head
            assert await reader.read() == b""
        await holder.execute(UNLOCK)
        head, _ = await answered(busy[0])
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in head
        for _, writer in (busy, idle, fresh):
            writer.close()
        await stopping


async def test_clients_that_leave_leave_nothing_behind(settings: Settings, pool: Pool, rng: random.Random) -> None:
    """At any moment of a request, by either way; what they asked is done or is not, and all else goes on."""
    requests = [posted({"email": f"left{number}@example.com"}, *(TWICE if number % 2 else ())) for number in range(300)]

    async def leave(server: ApiServer, request: bytes) -> None:
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(request[: rng.randrange(1, 2 * len(request))])
        await asyncio.sleep(rng.random() * 0.04)
        writer.transport.abort()

    async with stoppable_api(settings) as (server, running), httpx2.AsyncClient(base_url=server.url) as client:
        for _ in range(3):
            await asyncio.gather(*(leave(server, request) for request in requests))
        assert (await client.post("/identify", json=ADA)).status_code == 200
        async with asyncio.timeout(30):
            while running.server_state.tasks or len(running.server_state.connections) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0)
        pools = settings.read_connections + RESOLVE_CONNECTIONS + 1
        assert len(await backends(pool, role="nexus_api")) <= pools


async def test_a_server_that_is_to_stop_says_so_before_it_does(settings: Settings) -> None:
    slow = settings.model_copy(update={"shutdown_delay_seconds": 1.0})
    async with stoppable_api(slow) as (server, stopped), httpx2.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/readyz")).status_code == 200
        stopping = asyncio.create_task(stopped.stop())
        while (await client.get("/readyz")).status_code == 200:
            pass
        assert (await client.post("/identify", json=ADA)).status_code == 200
        assert (await client.get("/health")).status_code == 200
        await stopping
