"""A request to upgrade to what is not served is a request like any other, on every route, however it comes."""

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.integration.test_direct import ADA, answered, connected, posted
from tests.stage.running import ApiServer, both_ways

pytestmark = both_ways

H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
UPGRADES = [
    H2C,
    ("Upgrade: h2c", "Connection: keep-alive", "Connection: upgrade"),
    ("Connection: Upgrade", "Upgrade: foo"),
    ("Connection: Upgrade", "Upgrade: TLS/1.0, HTTP/1.1"),
    ("Connection: Upgrade", "Upgrade: foo", "Upgrade: bar"),
    ("Connection: Upgrade", "Upgrade: websocket"),  # which only a GET can ask for
    ("Upgrade: h2c",),
]
QUERY = {"query": "{ __typename }"}


def chunked(body: bytes, *headers: str, path: str) -> bytes:
    """The bytes of a request whose body comes in two chunks."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1], body[1:]))
    return "\r\n".join((*lines, *headers, "", "")).encode() + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "asked"), [("/identify", ADA), ("/graphql", QUERY), ("/nowhere", {}), ("/health", {})]
)
async def test_a_body_is_read_as_if_no_upgrade_was_asked_for(
    server: ApiServer, path: str, asked: dict[str, object]
) -> None:
    traced = "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1"
    async with connected(server) as (reader, writer):
        writer.write(posted(ADA))
        await answered(reader)
        writer.write(posted(asked, traced, path=path))
        plain = await answered(reader)
        for upgrade in UPGRADES:
            writer.write(posted(asked, traced, *upgrade, path=path))
            assert await answered(reader) == plain, upgrade
            writer.write(chunked(json.dumps(asked).encode(), traced, *upgrade, path=path))
            assert await answered(reader) == plain, upgrade


async def test_so_is_a_request_without_a_body(server: ApiServer) -> None:
    async with connected(server) as (reader, writer):
        for upgrade in UPGRADES:
            if "Upgrade: websocket" not in upgrade:
                writer.write("\r\n".join(["GET /livez HTTP/1.1", "Host: test", *upgrade, "", ""]).encode())
                assert json.loads((await answered(reader))[1]) == {"status": "ok"}, upgrade


async def test_requests_behind_it_are_answered_in_order(server: ApiServer) -> None:
    bodies = [{"email": f"p{number}@example.com"} for number in range(6)]
    async with connected(server) as (reader, writer):
        writer.write(b"".join(posted(body, *(H2C if number % 2 else ())) for number, body in enumerate(bodies)))
        for body in bodies:
            assert json.loads((await answered(reader))[1])["contact"]["emails"] == [body["email"]]


async def test_it_may_come_byte_by_byte(server: ApiServer) -> None:
    async with connected(server) as (reader, writer):
        for byte in posted(ADA, *H2C) + posted(ADA):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await answered(reader))[1] == (await answered(reader))[1]


async def test_a_body_past_the_limit_is_refused_and_the_next_request_answered(server: ApiServer) -> None:
    async with connected(server) as (reader, writer):
        writer.write(posted(b"x" * 70_000, *H2C) + posted(ADA, *H2C, "Connection: close"))
        assert (await answered(reader))[0].startswith(b"HTTP/1.1 413 ")
        head, _ = await answered(reader)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in head
        assert await reader.read() == b""


async def test_an_older_http_cannot_upgrade(server: ApiServer) -> None:
    content = json.dumps(ADA).encode()
    head = (
        f"POST /identify HTTP/1.0\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    )
    async with connected(server) as (reader, writer):
        writer.write("\r\n".join([head + H2C[0], *H2C[1:], "", ""]).encode() + content)
        assert (await answered(reader))[0].startswith(b"HTTP/1.1 200 ")


async def test_a_websocket_is_still_opened(server: ApiServer) -> None:
    url = f"ws://{server.host}:{server.port}/graphql"
    async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], close_timeout=0.5) as client:
        await client.send('{"type": "connection_init"}')
        assert json.loads(await client.recv()) == {"type": "connection_ack"}
