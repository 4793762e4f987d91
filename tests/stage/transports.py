"""GraphQL over every transport that serves it: the whole first answer, as its client gets it."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256
from typing import Any, NamedTuple

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.stage.callers import bearing, calling
from tests.stage.running import ApiServer

ONE_ANSWER = ("POST", "GET", "persisted", "trusted")
STREAMS = ("SSE", "WebSocket")
TRANSPORTS = (*ONE_ANSWER, *STREAMS)
GRAPHQL_WS = Subprotocol("graphql-transport-ws")


class Told(NamedTuple):
    """An answer. By a socket or a stream the status is 200 once it is open."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def codes(self) -> list[str]:
        """Of its errors."""
        return [error["extensions"]["code"] for error in self.json.get("errors", ())]


async def told(
    server: ApiServer, transport: str, query: str, key: str | None, *, document_id: str = "", **headers: str
) -> Told:
    """The first answer to the query. `document_id`: of the trusted document with this text."""
    if transport == "WebSocket":
        return await _by_socket(server, query, key)
    async with calling(server, key, **headers) as client:
        if transport == "SSE":
            return await _by_stream(client, query)
        return _told(await _by_http(client, transport, query, document_id))


async def shaken(stack: AsyncExitStack, server: ApiServer, headers: Sequence[tuple[str, str]] = ()) -> ClientConnection:
    """A socket that has said nothing yet; `headers` of its handshake."""
    url = f"ws://{server.host}:{server.port}/graphql"
    return await stack.enter_async_context(
        connect(url, subprotocols=[GRAPHQL_WS], close_timeout=0.5, additional_headers=headers)
    )


async def opened(stack: AsyncExitStack, server: ApiServer, key: str | None) -> ClientConnection:
    """A socket, introduced with this key in `connection_init`."""
    client = await shaken(stack, server)
    await client.send(json.dumps({"type": "connection_init", "payload": bearing(key)}))
    return client


async def subscribe(client: ClientConnection, query: str, *, id: str = "1") -> None:  # noqa: A002 - as the protocol
    """Start an operation."""
    await client.send(json.dumps({"type": "subscribe", "id": id, "payload": {"query": query}}))


async def heard(client: ClientConnection) -> dict[str, Any]:
    """The next message."""
    message: dict[str, Any] = json.loads(await client.recv())
    return message


def manifest(queries: Sequence[str]) -> str:
    """A file of trusted documents, each under `document_of` its text."""
    return json.dumps({document_of(query): query for query in queries})


def document_of(query: str) -> str:
    """The id of a trusted document."""
    return f"doc-{sha256(query.encode()).hexdigest()[:16]}"


async def _by_http(client: httpx2.AsyncClient, transport: str, query: str, document_id: str) -> httpx2.Response:
    if transport == "GET":
        return await client.get("/graphql", params={"query": query})
    if transport == "trusted":
        return await client.post("/graphql", json={"documentId": document_id or document_of(query)})
    if transport == "persisted":
        query += " "  # another text than the trusted document's, which needs no hash
        extensions = {"persistedQuery": {"version": 1, "sha256Hash": sha256(query.encode()).hexdigest()}}
        await client.post("/graphql", json={"query": query, "extensions": extensions})
        return await client.post("/graphql", json={"extensions": extensions})
    return await client.post("/graphql", json={"query": query})


async def _by_stream(client: httpx2.AsyncClient, query: str) -> Told:
    headers = {"accept": "text/event-stream"}
    async with client.stream("POST", "/graphql", json={"query": query}, headers=headers) as found:
        if found.status_code != 200:
            await found.aread()
            return _told(found)
        async for line in found.aiter_lines():
            if line.startswith("data: {"):
                return Told(200, line.removeprefix("data: "), found.headers)
    raise AssertionError("the stream ended without an answer")


async def _by_socket(server: ApiServer, query: str, key: str | None) -> Told:
    async with AsyncExitStack() as stack:
        client = await opened(stack, server, key)
        await client.recv()
        await subscribe(client, query)
        message = await heard(client)
        answer = {"errors": message["payload"]} if message["type"] == "error" else message["payload"]
        return Told(200, json.dumps(answer, ensure_ascii=False), {})


def _told(found: httpx2.Response) -> Told:
    return Told(found.status_code, found.text, found.headers)
