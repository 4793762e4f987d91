"""Requests that are answered without ASGI: the hot path from uvicorn's parser to an endpoint, and back.

This way is an accelerator: with `NEXUS_DIRECT=off` every answer stays the same.

ASGI (a scope, an event, three messages, headers checked twice) costs several times what parsing a request and writing
its answer cost. An endpoint that takes a whole body and returns a whole answer needs no ASGI. So a plain request, a
POST of JSON with a Content-Length, goes directly from the parser to the endpoint, and its answer into one write. Other
requests go by ASGI to the same endpoint: chunked or packed bodies, other media types, too many headers, a page's
request where origins are checked, a request sent before the last was answered, and a request with several answers. Both
ways give the same answer.
"""

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from nexus_graph.api.http.answer import JSON, Answer, Header, StreamingAnswer, failed
from nexus_graph.api.http.asgi import HEADERS_MAX, HEADERS_MAX_BYTES, VISIT, Endpoint
from nexus_graph.api.http.connections import ANSWERING, BODY, HEADER, IDLE, Connection, Connections
from nexus_graph.api.http.observing import Observing
from nexus_graph.api.http.packing import PACKED_MIN_BYTES, packed
from nexus_graph.api.http.request import Post, RequestId, trace_of
from nexus_graph.config import Settings
from nexus_graph.door.visit import OPEN, Visit
from nexus_graph.errors import Overloaded
from nexus_graph.telemetry import CORRELATION_ID

_NOT_PLAIN: Final = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"})
_OF_PAGES: Final = b"origin"
"""The headers of pages, where other origins are allowed."""
_LENGTH_MAX_DIGITS: Final = 18


class DirectRoutes:
    """The endpoints by path, and which of their requests are plain enough."""

    def __init__(self, endpoints: Mapping[str, Endpoint], settings: Settings) -> None:
        self._endpoints = {
            url.encode(): (path, endpoint) for path, endpoint in endpoints.items() for url in (path, path + "/")
        }
        self._body_max_bytes = settings.body_max_bytes
        self._not_plain = _NOT_PLAIN | {_OF_PAGES} if settings.cors_origins else _NOT_PLAIN
        self.observe = Observing(settings)

    def find(self, url: bytes, headers: Sequence[Header]) -> tuple[str, Endpoint, Mapping[bytes, bytes]] | None:
        """The path, its endpoint and the headers by name; None if the request must go by ASGI."""
        found = self._endpoints.get(url)
        if found is None or len(headers) > HEADERS_MAX:
            return None
        by_name = dict(headers)
        if len(by_name) < len(headers) or not self._not_plain.isdisjoint(by_name):
            return None
        if by_name.get(b"content-type") != JSON:
            return None
        length = by_name.get(b"content-length", b"")
        if not length.isdigit() or len(length) > _LENGTH_MAX_DIGITS or int(length) > self._body_max_bytes:
            return None
        if len(b"".join(by_name)) + len(b"".join(by_name.values())) > HEADERS_MAX_BYTES:
            return None
        return *found, by_name


class Exchange:
    """A request under way and its answer. To uvicorn's protocol it is a cycle: it has every attribute that the protocol
    reads and sets.
    """

    __slots__ = ("body", "disconnected", "endpoint", "headers", "keep_alive", "path", "response_complete", "task")
    message_event: Final = asyncio.Event()
    """Set if the client is gone; no task waits for it."""

    def __init__(self, path: str, endpoint: Endpoint, headers: Mapping[bytes, bytes], *, keep_alive: bool) -> None:
        self.path = path
        self.endpoint = endpoint
        self.headers = headers
        self.keep_alive = keep_alive
        self.body = b""
        self.disconnected = False
        self.response_complete = False
        self.task: asyncio.Task[None]


async def _refuse(post: Post) -> Answer:  # noqa: ARG001 - whatever was asked
    """The endpoint of requests that cannot be answered in time."""
    raise Overloaded("too many requests are waiting")


class DirectProtocol(Connection):
    """uvicorn's HTTP protocol, with a direct way to some endpoints."""

    def __init__(self, routes: DirectRoutes, connections: Connections, **given: Any) -> None:
        """`given`: by uvicorn."""
        super().__init__(connections, **given)
        self._routes = routes
        self._queue = connections.queue
        self._exchange: Exchange | None = None
        """The direct request that is being read."""

    def on_message_begin(self) -> None:
        """Called by the parser. uvicorn's own preparations follow only if the request goes by ASGI."""
        self.phase, self.timed_phase = HEADER, IDLE
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._exchange = None

    def on_headers_complete(self) -> None:
        last: Any = self.cycle
        if last is None or last.response_complete:
            if (self.surplus or self._queue.overloaded) and self.must_refuse():
                self._exchange = self._refusal()
            else:
                found = self._routes.find(self.url, self.headers)
                if found is not None and self.parser.get_method() == b"POST":
                    self._exchange = self._plain(*found)
            if self._exchange is not None:
                self.phase = BODY
                self.cycle = cast("Any", self._exchange)
                return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # the scope holds this very list
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._exchange is None:
            super().on_body(body)
        elif self._exchange.endpoint is not _refuse:
            self._exchange.body += body

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is None:
            super().on_message_complete()
            return
        self.phase = ANSWERING
        if exchange.endpoint is _refuse:
            self._start(exchange)
        else:
            self._queue.begin(self._start, exchange)

    def _refusal(self) -> Exchange:
        """The exchange of a refused request: cheaper than by ASGI, as refusals come in masses."""
        # HEAD's answer must have no body and this one has, so the connection ends here.
        keeps = self.parser.should_keep_alive() and self.parser.get_method() != b"HEAD"
        keep_alive = keeps and self.parser.get_http_version() == "1.1"
        return Exchange("none", _refuse, dict(self.headers), keep_alive=keep_alive)

    def _plain(self, path: str, endpoint: Endpoint, headers: Mapping[bytes, bytes]) -> Exchange | None:
        """The exchange of a plain request; None where it is of HTTP/1.0 and asks to keep the connection."""
        keep_alive = self.parser.should_keep_alive()
        # HTTP/1.0 keeps a connection only if a header asks for it: reading the header costs less than the version.
        if keep_alive and b"connection" in headers and self.parser.get_http_version() != "1.1":
            return None
        return Exchange(path, endpoint, headers, keep_alive=keep_alive)

    def _start(self, exchange: Exchange) -> None:
        exchange.task = task = self.loop.create_task(self._answer(exchange))
        self.tasks.add(task)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            if exchange.endpoint is not _refuse:
                self._queue.begun()
                if exchange.disconnected:
                    return
            began = perf_counter()
            request_id = RequestId(exchange.headers.get(b"x-request-id"))
            correlation_id = request_id.text
            CORRELATION_ID.set(correlation_id)
            given = exchange.headers.get(b"traceparent")
            traced = () if given is None else trace_of(given)
            try:
                answer = await exchange.endpoint(self._post(exchange, request_id))
                if len(answer.body) >= PACKED_MIN_BYTES:
                    answer = await packed(answer, exchange.headers)
            except StreamingAnswer as several:
                self._bring_by_asgi(exchange, several.visit or OPEN)
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer that hides it
                answer = failed(error, correlation_id)
            if traced:
                answer = answer.with_headers(traced)
            if self.flow.write_paused:
                await self.flow.drain()
            exchange.response_complete = True
            if not self.ended:
                ends = not exchange.keep_alive or ((self.surplus or self.all.stopping) and self.is_last)
                self._socket.write(self.written_out(answer, correlation_id, ends=ends))
                if ends:
                    self.transport.close()
            self.on_response_complete()
            self._routes.observe(exchange.path, answer.status, perf_counter() - began, request_id)
        finally:
            # Not by a callback of the task, which would cost another turn of the loop.
            self.tasks.discard(exchange.task)

    def _post(self, exchange: Exchange, request_id: RequestId) -> Post:
        peer = self.client[0] if self.client else ""
        return Post(exchange.body, exchange.headers, request_id, self.app_state, peer=peer)

    def _bring_by_asgi(self, exchange: Exchange, visit: Visit) -> None:
        """Start the request again by ASGI, as the same visit."""
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "headers": list(exchange.headers.items()),
            "state": self.app_state.copy(),
            "method": "POST",
            "path": self.root_path + exchange.path,
            "raw_path": (self.root_path + exchange.path).encode(),
            "query_string": b"",
            VISIT: visit,
        }
        cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=exchange.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.disconnected = exchange.disconnected
        cycle.body += exchange.body
        cycle.more_body = False
        cycle.message_event.set()
        if cast("Any", self.cycle) is exchange:
            self.cycle = cycle
        self._start_asgi_task(cycle, self.app)
