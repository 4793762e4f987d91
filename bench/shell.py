"""What GraphQL itself costs: the CPU of one identify request from its bytes to its answer's, with nothing behind it.

`python -m bench.shell` runs uvicorn's own protocol, the whole application and a cached document of 20 leaf
fields in this process, on a transport that keeps nothing, and takes single parts away to see what each is worth.
identify answers at once with a family that is known: servers cost nothing here. CPU time of this process, the median of
interleaved rounds; Markdown on stdout.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime
from statistics import median
from time import process_time
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast
from unittest.mock import patch

import strawberry
import uvloop
from starlette.applications import Starlette
from starlette.routing import Route
from strawberry.extensions import ParserCache, ValidationCache
from strawberry.schema.config import StrawberryConfig
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bench.load.echo import echo
from nexus_graph.api.graphql.engine import completion, documents
from nexus_graph.api.graphql.schema import Context
from nexus_graph.api.graphql.schema.resolvers import Mutation, Query, Subscription
from nexus_graph.api.graphql.schema.scalars import SCALARS
from nexus_graph.api.graphql.transport import route
from nexus_graph.api.http.request import RequestId
from nexus_graph.app import create_app, server_config
from nexus_graph.config import Settings
from nexus_graph.model import Contact, Family, Identification, IdentifyRequest, Outcome, Source

ROUNDS: Final = 7
REQUESTS: Final = 2_000
LEAVES: Final = 20
DOCUMENT: Final = """
mutation Identify($input: IdentifyInput!) {
  identify(input: $input) {
    __typename
    ... on IdentifySuccess {
      outcome version reason
      family {
        id version source emails phoneNumbers
        primaryContact { id databaseId email phoneNumber linkPrecedence createdAt }
        secondaryContacts(first: 1) { totalCount nodes { id databaseId email phoneNumber } }
      }
    }
    ... on UserError { code message field }
  }
}
"""
VARIABLES: Final = {"input": {"email": "lorraine@hillvalley.edu", "phoneNumber": "123456"}}

Ask = Callable[[], Coroutine[Any, Any, None]]


class _Case(NamedTuple):
    """What is asked, and what of the code is changed meanwhile."""

    name: str
    ask: Ask
    changed: Callable[[], AbstractContextManager[None]] = nullcontext
    slowness: int = 1


class _Transport(asyncio.Transport):
    """Takes what is written, and keeps the last of it."""

    written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written = bytes(data)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass


async def _identify(_request: IdentifyRequest) -> Identification:
    # A new one for each: what was made of it for the last caller is not at hand.
    return Identification(Outcome.MATCHED, Family(2, _CONTACTS, Source.RECORD))


_CONTACTS: Final = tuple(
    Contact(number, f"person{number}@hillvalley.edu", "123456", datetime(2026, 11, 1, second=number, tzinfo=UTC))
    for number in (1, 2)
)
_IDENTITY: Final = SimpleNamespace(identify=_identify, families=None, listing=None, feed=None)


@asynccontextmanager
async def _served(app: Starlette, path: str, body: object) -> AsyncIterator[Ask]:
    """Sends the body to the path, over the protocol that serves it, and waits for the whole answer."""
    config = server_config(app, Settings())
    config.load()
    state = {"identity": _IDENTITY, "redis": None}
    make = cast("Callable[..., HttpToolsProtocol]", config.http_protocol_class)
    protocol = make(config=config, server_state=ServerState(), app_state=state)
    transport = _Transport()
    protocol.connection_made(transport)
    content = json.dumps(body).encode()
    head = (f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", "accept: application/json")
    request = "\r\n".join([*head, f"content-length: {len(content)}", "", ""]).encode() + content

    async def ask() -> None:
        protocol.data_received(request)
        while not protocol.cycle.response_complete:  # noqa: ASYNC110 - nothing is waited for but the loop's turn
            await asyncio.sleep(0)
        if b'"errors"' in transport.written:
            raise AssertionError(transport.written)

    try:
        yield ask
    finally:
        protocol.connection_lost(None)


def _stock() -> Ask:
    """Strawberry's own execution, with its caches of documents: no HTTP and no encoding."""
    caches = ParserCache(maxsize=100), ValidationCache(maxsize=100)
    schema = strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(scalar_map=SCALARS),
        extensions=[lambda: caches[0], lambda: caches[1]],
    )
    context = Context(cast("Any", _IDENTITY), Settings(), RequestId(None).uuid)

    async def ask() -> None:
        result = await schema.execute(DOCUMENT, variable_values=VARIABLES, context_value=context)
        if result.errors:
            raise AssertionError(result.errors)

    return ask


@contextmanager
def _unplanned() -> Iterator[None]:
    with patch.object(documents, "compile_operation", lambda *_: None):
        yield


@contextmanager
def _encoded_by_json() -> Iterator[None]:
    with (
        patch.object(completion, "_encoded", lambda answer: answer),
        patch.object(route, "encode", lambda answer: json.dumps(answer, default=datetime.isoformat).encode()),
    ):
        yield


async def _cost(ask: Ask, requests: int) -> float:
    """CPU of one request, in microseconds."""
    started = process_time()
    for _ in range(requests):
        await ask()
    return (process_time() - started) / requests * 1e6


async def measure(*, rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, float]:
    """Microseconds of CPU a request, by what was asked."""
    asked = {"query": DOCUMENT, "variables": VARIABLES}
    async with AsyncExitStack() as stack:

        async def served(path: str, body: object) -> Ask:
            return await stack.enter_async_context(_served(create_app(Settings()), path, body))

        bare = Starlette(routes=[Route("/echo", echo, methods=["POST"])])
        cases = [
            _Case("HTTP alone: a bare Starlette echo", await stack.enter_async_context(_served(bare, "/echo", asked))),
            _Case("REST identify", await served("/identify", VARIABLES["input"])),
            _Case("GraphQL identify", await served("/graphql", asked)),
            _Case("... encoded by json, not msgspec", await served("/graphql", asked), _encoded_by_json),
            _Case("... executed by graphql-core, not a plan", await served("/graphql", asked), _unplanned),
            _Case("... its document not remembered", await stack.enter_async_context(_forgotten(asked)), slowness=10),
            _Case("stock Strawberry with its caches, execution alone", _stock()),
        ]
        found: dict[str, list[float]] = {case.name: [] for case in cases}
        for _ in range(rounds):
            for case in cases:
                with case.changed():
                    await case.ask()
                    found[case.name].append(await _cost(case.ask, requests // case.slowness))
    return {name: median(costs) for name, costs in found.items()}


@asynccontextmanager
async def _forgotten(asked: dict[str, Any]) -> AsyncIterator[Ask]:
    """Two documents by turns, where only one is remembered."""
    with patch.object(documents, "REMEMBERED_MAX", 1):
        app = create_app(Settings())
    other = {**asked, "query": DOCUMENT + " "}
    async with _served(app, "/graphql", asked) as one, _served(app, "/graphql", other) as another:
        asks = [one, another]

        async def ask() -> None:
            asks.reverse()
            await asks[0]()

        yield ask


def main() -> None:
    """Print the table."""
    print(f"| one identify, {LEAVES} leaf fields | µs of CPU |\n| --- | --- |")
    for name, microseconds in uvloop.run(measure()).items():
        print(f"| {name} | {microseconds:,.0f} |")


if __name__ == "__main__":
    main()
