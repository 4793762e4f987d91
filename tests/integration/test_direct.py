"""The direct way of a request gives what the usual way gives, and keeps a connection's promises."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY
from uvicorn.protocols.http import httptools_impl

from nexus_graph.api.http.direct import DirectProtocol, DirectRoutes
from nexus_graph.api.http.request import RequestId
from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from tests.integration.test_rest import UNKNOWN_OUTCOME
from tests.stage.running import ApiServer, both_ways, running_api

LOCK = "SELECT pg_advisory_lock(474219276659)"
UNLOCK = "SELECT pg_advisory_unlock(474219276659)"
ADA = {"email": "ada@example.com", "phoneNumber": "123456"}
TWICE = ("X-Twice: a", "X-Twice: b")
"""What sends a request the usual way and matters to nobody."""
GRAPHQL: list[dict[str, object]] = [
    {"query": "query F($email: String!) { contactFamily(by: {email: $email}) { id emails } }", "variables": ADA},
    {"query": "{ __typename }"},
    {"query": "{ __typename", "operationName": "A"},
    {"query": "query F($id: ID!) { contactFamily(by: {contactId: $id}) { id } }", "variables": {"id": "nobody"}},
    {"query": 'mutation { identify(input: {email: "nobody"}) { __typename ... on InvalidInput { fields } } }'},
    {"query": "subscription { identityEvents { __typename } }"},
    {"query": 1},
    {"documentId": "sha256:0"},
    {},
]


def posted(body: bytes | Mapping[str, object], *headers: str, path: str = "/identify") -> bytes:
    """The bytes of a request."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Content-Type: application/json", *headers]
    return "\r\n".join((*lines, f"Content-Length: {len(content)}", "", "")).encode() + content


async def answered(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next answer, head and body; the head without its date, since two answers need not leave in one second."""
    head = re.sub(rb"date: [^\r]*\r\n", b"", await reader.readuntil(b"\r\n\r\n"))
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    return head, await reader.readexactly(int(length[1]))


@asynccontextmanager
async def connected(server: ApiServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The URLs of requests that took the direct way."""
    taken: list[bytes] = []
    find = DirectRoutes.find

    def watched(routes: DirectRoutes, url: bytes, headers: list[tuple[bytes, bytes]]) -> object:
        found = find(routes, url, headers)
        if found is not None:
            taken.append(url)
        return found

    monkeypatch.setattr(DirectRoutes, "find", watched)
    return taken


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ADA).encode(),
        b'{"email": "nobody"}',
        b"{}",
        b"[]",
        b'{"email": "ada@example.com"',
        b'{"email": "\xff"}',
        b"[" * 100,
        b"",
        b'{"phoneNumber": 1e400}',
        b'\xef\xbb\xbf{"email": "ada@example.com"}',
        b'{"email": "ada@example.com", "email": null}',
        b'{"email": "ada@example.com", "phone": "1", "name": {"first": ":"}}',
        b'{"phone": "123456"}',
    ],
)
async def test_both_ways_give_the_same_answer(server: ApiServer, direct: list[bytes], body: bytes) -> None:
    async with connected(server) as (reader, writer):
        writer.write(posted(ADA))
        await answered(reader)
        direct.clear()
        writer.write(posted(body, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1"))
        there = await answered(reader)
        assert direct == [b"/identify"]
        writer.write(posted(body, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1", *TWICE))
        assert await answered(reader) == there
        assert direct == [b"/identify"]
    assert b"x-request-id: 0f1e2d3c4b5a49788796a5b4c3d2e1f1\r\n" in there[0]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/graphql-response+json", "text/html;q=0.1"])
async def test_both_ways_give_the_same_answer_to_graphql(server: ApiServer, direct: list[bytes], accept: str) -> None:
    bodies = [*(json.dumps(asked).encode() for asked in GRAPHQL), b"[{}]", b"{", b"\xff", b""]
    bodies += [b'{"query": "{__typename}", "query": "{__typename}"}', b'{"variables": {"a": {"b": 1, "b": 2}}}']
    bodies += [b'\xef\xbb\xbf{"query": "{a: __typename}", "operationName": "", "variables": [], "extensions": []}']
    headers = ("X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1", f"Accept: {accept}")
    async with connected(server) as (reader, writer):
        writer.write(posted(ADA))
        await answered(reader)
        for body in bodies:
            direct.clear()
            writer.write(posted(body, *headers, path="/graphql"))
            there = await answered(reader)
            assert direct == [b"/graphql"]
            writer.write(posted(body, *headers, *TWICE, path="/graphql"))
            assert await answered(reader) == there
            assert direct == [b"/graphql"]
            assert b"x-request-id: 0f1e2d3c4b5a49788796a5b4c3d2e1f1\r\n" in there[0]


async def test_a_masked_field_is_logged_with_the_id_that_its_caller_is_told(
    server: ApiServer, direct: list[bytes], pool: Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    await pool.execute(UNKNOWN_OUTCOME)
    asked = {"query": 'mutation { identify(input: {email: "ada@example.com"}) { __typename } }'}
    async with connected(server) as (reader, writer):
        writer.write(posted(asked, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f3", path="/graphql"))
        _, body = await answered(reader)
    assert direct == [b"/graphql"]
    (error,) = json.loads(body)["errors"]
    assert error["extensions"] == {"code": "INTERNAL", "correlationId": "0f1e2d3c4b5a49788796a5b4c3d2e1f3"}
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "unexpected_error" in line]
    assert [line["correlation_id"] for line in logged] == ["0f1e2d3c4b5a49788796a5b4c3d2e1f3"]


URQL = (
    "Accept: application/graphql-response+json, application/graphql+json, application/json, text/event-stream, "
    "multipart/mixed"
)
EVENTS = {"query": "subscription { identityEvents(after: 0) { sequence } }"}


@pytest.mark.parametrize("asked", [*GRAPHQL[:5], *GRAPHQL[6:]])
async def test_who_takes_streams_among_others_is_given_one_answer(
    server: ApiServer, direct: list[bytes], asked: dict[str, object]
) -> None:
    async with connected(server) as (reader, writer):
        writer.write(
            posted(
                asked,
                "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1",
                "Accept: application/graphql-response+json",
                path="/graphql",
            )
        )
        plain = await answered(reader)
        writer.write(posted(asked, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1", URQL, path="/graphql"))
        assert await answered(reader) == plain
        assert direct == [b"/graphql"] * 2
        writer.write(posted(asked, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1", URQL, *TWICE, path="/graphql"))
        assert await answered(reader) == plain
        assert direct == [b"/graphql"] * 2


@pytest.mark.parametrize("more", [(), TWICE])
@pytest.mark.parametrize(
    "accept",
    ["Accept: text/event-stream", URQL, "Accept: application/json;q=0.1, text/event-stream", "Accept: text/*"],
)
async def test_a_subscription_is_a_stream_on_both_ways(
    server: ApiServer, direct: list[bytes], accept: str, more: tuple[str, ...]
) -> None:
    async with connected(server) as (reader, writer):
        writer.write(posted(ADA))
        await answered(reader)
        writer.write(posted(EVENTS, accept, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1", *more, path="/graphql"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"content-type: text/event-stream\r\n" in head
        assert b"x-request-id: 0f1e2d3c4b5a49788796a5b4c3d2e1f1\r\n" in head
        assert b'"sequence":1}' in await reader.readuntil(b"\n\n")
    assert direct == ([b"/identify"] if more else [b"/identify", b"/graphql"])


@pytest.mark.parametrize("more", [(), TWICE])
async def test_a_query_is_a_stream_for_those_who_take_nothing_else(server: ApiServer, more: tuple[str, ...]) -> None:
    async with connected(server) as (reader, writer):
        writer.write(posted(GRAPHQL[1], "Accept: text/event-stream", *more, path="/graphql"))
        writer.write(posted(GRAPHQL[1], "Accept: text/event-stream, application/json;q=0", *more, path="/graphql"))
        writer.write(posted(GRAPHQL[1], "Connection: close", *more, path="/graphql"))
        told = await reader.read()
    assert told.count(b"event: next") == told.count(b"event: complete") == 2
    assert told.count(b"HTTP/1.1 200 ") == 3
    assert told.endswith(b"}")


async def test_a_stream_that_came_directly_ends_with_its_client(server: ApiServer, direct: list[bytes]) -> None:
    following = {"transport": "sse"}
    async with connected(server) as (reader, writer):
        writer.write(posted(EVENTS, URQL, path="/graphql"))
        await reader.readuntil(b"\r\n\r\n")
        assert REGISTRY.get_sample_value("nexus_subscriptions", following) == 1
    assert direct == [b"/graphql"]
    async with asyncio.timeout(30), connected(server) as (reader, writer):
        while REGISTRY.get_sample_value("nexus_subscriptions", following) != 0:
            writer.write(posted(ADA))
            await answered(reader)


@pytest.mark.parametrize(("origins", "taken"), [((), [b"/identify"]), (("https://app.example",), [])])
async def test_a_page_is_judged_by_its_origin_where_other_origins_are_let_in(
    settings: Settings, direct: list[bytes], origins: tuple[str, ...], taken: list[bytes]
) -> None:
    async with (
        running_api(settings.model_copy(update={"cors_origins": origins})) as server,
        connected(server) as (reader, writer),
    ):
        writer.write(posted(ADA, "Origin: https://app.example"))
        head, _ = await answered(reader)
    assert (b"access-control-allow-origin: https://app.example" in head) is bool(origins)
    assert direct == taken


async def test_an_error_nobody_expected_is_masked_alike(server: ApiServer, pool: Pool) -> None:
    await pool.execute(UNKNOWN_OUTCOME)
    async with connected(server) as (reader, writer):
        writer.write(posted(ADA, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f2"))
        there = await answered(reader)
        writer.write(posted(ADA, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f2", *TWICE))
        assert await answered(reader) == there
    assert there[0].startswith(b"HTTP/1.1 500 ")
    assert json.loads(there[1])["correlationId"] == "0f1e2d3c4b5a49788796a5b4c3d2e1f2"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Content-Type: application/json"], 200),  # twice
        (["Expect: 100-continue"], 100),
        ([f"X-Filler-{number}: x" for number in range(100)], 431),
        ([f"X-Filler: {'x' * 17_000}"], 431),
    ],
)
async def test_what_is_not_plain_takes_the_usual_way(
    server: ApiServer, direct: list[bytes], headers: list[str], status: int
) -> None:
    async with connected(server) as (reader, writer):
        writer.write(posted(ADA, *headers))
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert direct == []


async def test_bodies_without_their_length_or_past_the_limit_take_the_usual_way(
    server: ApiServer, direct: list[bytes]
) -> None:
    content = json.dumps(ADA).encode()
    head = b"POST /identify HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    async with connected(server) as (reader, writer):
        writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content))
        assert (await answered(reader))[0].startswith(b"HTTP/1.1 200 ")
        writer.write(head + b"Content-Length: 65537\r\n\r\n")
        assert (await answered(reader))[0].startswith(b"HTTP/1.1 413 ")
    assert direct == []


async def test_requests_sent_before_the_last_was_answered_are_answered_in_order(
    server: ApiServer, direct: list[bytes]
) -> None:
    bodies = [{"email": f"p{number}@example.com"} for number in range(20)]
    async with connected(server) as (reader, writer):
        writer.write(b"".join(map(posted, bodies)) + b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n" + posted(ADA))
        for body in bodies:
            assert json.loads((await answered(reader))[1])["contact"]["emails"] == [body["email"]]
        assert json.loads((await answered(reader))[1]) == {"status": "ok"}
        assert json.loads((await answered(reader))[1])["contact"]["emails"] == [ADA["email"]]
        assert direct == [b"/identify"], "the first only: the others came too soon"
        writer.write(posted(ADA))
        await answered(reader)
        assert direct == [b"/identify"] * 2


async def test_a_request_may_come_byte_by_byte(server: ApiServer, direct: list[bytes]) -> None:
    async with connected(server) as (reader, writer):
        for byte in posted(ADA):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert json.loads((await answered(reader))[1])["contact"]["emails"] == [ADA["email"]]
    assert direct == [b"/identify"]


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(server: ApiServer, pool: Pool) -> None:
    async with connected(server) as (_, writer):
        writer.write(posted(ADA)[:-5])
        await writer.drain()
    async with connected(server) as (reader, writer):
        writer.write(posted({"email": "after@example.com"}))
        assert (await answered(reader))[0].startswith(b"HTTP/1.1 200 ")
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 1


async def test_a_connection_ends_where_the_client_asks_for_it(server: ApiServer) -> None:
    async with connected(server) as (reader, writer):
        writer.write(posted(ADA, "Connection: close"))
        head, _ = await answered(reader)
        assert b"\r\nconnection: close\r\n" in head
        assert await reader.read() == b""


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(settings: Settings, pool: Pool) -> None:
    async with (
        running_api(settings.model_copy(update={"keep_alive_seconds": 1})) as server,
        pool.acquire() as holder,
        connected(server) as (reader, writer),
        connected(server) as (busy_reader, busy),
    ):
        busy.write(posted({"email": "first@example.com"}))
        await answered(busy_reader)
        await holder.execute(LOCK)
        busy.write(posted({"email": "busy@example.com"}))
        writer.write(posted({}))
        await answered(reader)
        assert await reader.read() == b"", "the idle one is closed"
        await holder.execute(UNLOCK)
        head, _ = await answered(busy_reader)
        assert head.startswith(b"HTTP/1.1 200 ")
        busy.write(posted({"email": "busy@example.com"}))
        await answered(busy_reader)
        assert await busy_reader.read() == b"", "and so is the other, once it is idle"


async def test_who_does_not_read_answers_is_not_read_from(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its answers would pile up in memory."""
    made = asyncio.Event()
    piled_up: list[int] = []
    written_out = DirectProtocol.written_out

    def watched(protocol: DirectProtocol, *given: Any, **named: Any) -> bytes:
        piled_up.append(protocol._socket.get_write_buffer_size())
        made.set()
        return b"x" * 10_000 + written_out(protocol, *given, **named)

    monkeypatch.setattr(DirectProtocol, "written_out", watched)
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (server.host, server.port))
        for _ in range(2_000):  # 20 MB: more than the sockets between us hold
            made.clear()
            await loop.sock_sendall(client, posted({"email": "nobody"}))
            try:
                await asyncio.wait_for(made.wait(), 1)
            except TimeoutError:
                break  # not read from any more
    assert piled_up
    assert max(piled_up) < 200_000


async def test_callers_of_one_family_are_each_told_what_is_true_then(server: ApiServer) -> None:
    """An answer is written out once for those who are given the same family, and anew as soon as it is another."""
    async with connected(server) as (reader, writer), connected(server) as (other_reader, other):
        for size in range(1, 6):
            grown = {"email": f"e{size}@example.com", "phoneNumber": "123456"}
            writer.write(posted(grown))
            _, told = await answered(reader)
            for asking in (writer, other):
                asking.write(posted(grown))
            for asked in (reader, other_reader):
                assert (await answered(asked))[1] == told
            assert len(json.loads(told)["contact"]["emails"]) == size


@both_ways
async def test_bytes_that_are_not_http_get_a_problem_and_the_end(server: ApiServer) -> None:
    async with connected(server) as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        head, body = await answered(reader)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"content-type: application/problem+json\r\n" in head
        assert json.loads(body)["code"] == "BAD_REQUEST"
        assert await reader.read() == b""


def test_an_id_is_made_once() -> None:
    identified = RequestId(None)
    assert identified.text == identified.text == str(identified.uuid)
    assert RequestId(b"not sane!").text != "not sane!"


async def test_the_direct_way_is_behind_a_switch(settings: Settings, direct: list[bytes]) -> None:
    async with (
        running_api(settings.model_copy(update={"direct": "off"})) as server,
        connected(server) as (
            reader,
            writer,
        ),
    ):
        writer.write(posted(ADA))
        head, _ = await answered(reader)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert direct == []


async def test_a_uvicorn_of_other_inner_parts_serves_by_asgi(
    settings: Settings, direct: list[bytes], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class LargerCycle(httptools_impl.RequestResponseCycle):
        def __init__(self, priority: int = 0, **given: Any) -> None:
            super().__init__(**given)
            self.priority = priority

    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", LargerCycle)
    async with running_api(settings) as server, connected(server) as (reader, writer):
        writer.write(posted(ADA))
        head, _ = await answered(reader)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert direct == []
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "direct_way_off" in line]
    assert [line["differences"][0] for line in lines] == ["RequestResponseCycle"], "one line"
