"""The benchmark's HTTP client, against a server that says what the test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bench.load.client import HttpClient

Script = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _server(script: Script) -> AsyncIterator[tuple[str, int, list[int]]]:
    """Answers each request by `script`, which gets its number on its connection. Yields host, port and the number of
    requests that each connection carried.
    """
    carried: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(carried)
        carried.append(0)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                carried[place] += 1
                await script(carried[place], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield *server.sockets[0].getsockname(), carried


async def _say_ok(number: int, writer: asyncio.StreamWriter) -> None:
    body = b"answer %d" % number
    writer.write(b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body))


async def test_answers_come_in_turn_on_one_connection() -> None:
    async with _server(_say_ok) as (host, port, carried), HttpClient(host, port) as client:
        first = await client.post("/", b"{}")
        second = await client.post("/", b"[]", content_type="text/plain")
        assert (first.status, first.headers["x-number"], first.body) == (200, "1", b"answer 1")
        assert second.body == b"answer 2"
        assert carried == [2]


async def test_an_answer_may_come_in_pieces() -> None:
    async def in_pieces(_: int, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with _server(in_pieces) as (host, port, _), HttpClient(host, port) as client:
        for _ in range(2):
            assert (await client.post("/", b"{}"))[::2] == (503, b"busy")


async def test_a_lost_connection_is_an_error_and_the_next_call_opens_another() -> None:
    async def hang_up_on_the_second(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 2:
            writer.close()
        else:
            await _say_ok(number, writer)

    async with _server(hang_up_on_the_second) as (host, port, carried), HttpClient(host, port) as client:
        await client.post("/", b"{}")
        with pytest.raises(ConnectionError):
            await client.post("/", b"{}")
        assert (await client.post("/", b"{}")).status == 200
        assert carried == [2, 1]


async def test_after_a_timeout_the_late_answer_is_never_taken_for_the_next() -> None:
    late = asyncio.Event()

    async def first_is_late(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 1 and not late.is_set():
            late.set()
            return
        await _say_ok(number, writer)

    async with _server(first_is_late) as (host, port, carried), HttpClient(host, port, timeout_seconds=0.05) as client:
        with pytest.raises(TimeoutError):
            await client.post("/", b"{}")
        assert (await client.post("/", b"{}")).body == b"answer 1"
        assert carried == [1, 1]


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"],
    ids=["endless", "too long"],
)
async def test_an_answer_of_unclear_length_is_refused(answer: bytes) -> None:
    async def say_it(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with _server(say_it) as (host, port, _), HttpClient(host, port) as client:
        with pytest.raises(ConnectionError):
            await client.post("/", b"{}")


async def test_two_calls_at_once_are_refused() -> None:
    async def never(_: int, __: asyncio.StreamWriter) -> None:
        return

    async with _server(never) as (host, port, _), HttpClient(host, port) as client:
        waiting = asyncio.create_task(client.post("/", b"{}"))
        await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError, match="one request at a time"):
            await client.post("/", b"{}")
        with pytest.raises(ConnectionError):
            await waiting
