"""The way of every request by ASGI to an endpoint and back.

`RequestMiddleware` wraps the whole application, in place of Starlette's two layers: a request id, bounded headers, an
answer in any case, a metric, safe headers. Inside, an `AsgiEndpoint` reads the request whole and sends the answer.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nexus_graph.api.http.answer import NO_STORE, SAFE_HEADERS, Answer, Header, StreamingAnswer, failed
from nexus_graph.api.http.body import ClientGone, read_json_body
from nexus_graph.api.http.observing import Observing
from nexus_graph.api.http.packing import PACKED_MIN_BYTES, packed
from nexus_graph.api.http.request import Post, RequestId, trace_of
from nexus_graph.config import Settings
from nexus_graph.door.visit import OPEN
from nexus_graph.errors import HeadersTooLarge, NexusError, Overloaded
from nexus_graph.telemetry import CORRELATION_ID

REFUSED: Final = "nexus_graph.refused"
"""A key of the scope: the connection has found that the request cannot be answered in time."""

VISIT: Final = "nexus_graph.visit"
"""A key of the scope: the visit of a request that the door has let in already."""

HEADERS_MAX: Final = 100
"""Headers of one request: browsers behind several proxies send thirty."""

HEADERS_MAX_BYTES: Final = 16 * 1024
"""Bytes of all names and values of headers together: Node.js takes as many by default."""


_WITHOUT_CONTENT: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)

Endpoint = Callable[[Post], Awaitable[Answer]]
"""The whole answer to a whole request of a path. Every HTTP endpoint has this shape.

An error becomes an answer (`failed`). StreamingAnswer: the request has several answers.
"""


class AsgiEndpoint:
    """An endpoint as an ASGI application, inside of `RequestMiddleware`."""

    def __init__(self, endpoint: Endpoint, settings: Settings, *, body_max_bytes: int | None = None) -> None:
        """`body_max_bytes`: None is NEXUS_BODY_MAX_BYTES."""
        self._endpoint = endpoint
        self._body_max_bytes = settings.body_max_bytes if body_max_bytes is None else body_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Raises what the endpoint raises, and ClientGone."""
        try:
            answer = await self._endpoint(await self._post(scope, receive))
            if len(answer.body) >= PACKED_MIN_BYTES:
                answer = await packed(answer, scope["header"])
        except StreamingAnswer as several:
            await several.answers(receive, send)
        else:
            await respond(send, answer)

    async def _post(self, scope: Scope, receive: Receive) -> Post:
        body, fault = b"", None
        if scope["method"] == "POST":
            try:
                body = await read_json_body(scope, receive, limit_bytes=self._body_max_bytes)
            except NexusError as error:
                fault = error
        return Post(
            body,
            scope["header"],
            scope["request_id"],
            scope["state"],
            fault,
            scope["method"],
            scope["query_string"],
            scope.get("path_params", {}),
            scope["client"][0] if scope["client"] else "",
            scope.get(VISIT, OPEN),
        )


async def respond(send: Send, answer: Answer) -> None:
    """Send a whole answer."""
    headers: list[Header] = [*answer.headers]
    if answer.status not in _WITHOUT_CONTENT:
        headers[:0] = (b"content-type", answer.content_type), (b"content-length", b"%d" % len(answer.body))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


class RequestMiddleware:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute], settings: Settings) -> None:
        self._app = app
        self._templates: dict[Any, str] = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
        self._observe = Observing(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "headers" in scope:
            scope["header"] = _by_name(scope["headers"])
            if scope["path"].endswith("/"):
                # Answered and not redirected: the client's scheme and host may differ from those known here.
                scope["path"] = scope["path"][:-1] or "/"
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        request_id = scope["request_id"] = RequestId(scope["header"].get(b"x-request-id"))
        correlation_id = request_id.text
        CORRELATION_ID.set(correlation_id)
        traced = trace_of(scope["header"].get(b"traceparent"))
        of_all = (*traced, (b"x-request-id", correlation_id.encode()), *SAFE_HEADERS)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].extend(of_all)
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append(NO_STORE)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, send_with_headers)
        except ClientGone:
            status = 499
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer that tells nothing of it
            answer = failed(error, correlation_id)
            if status == 0:
                await respond(send_with_headers, answer)
        finally:
            template = self._templates.get(scope.get("endpoint"), "none")
            self._observe(template, status, perf_counter() - started, request_id)

    def _check(self, scope: Scope) -> None:
        if REFUSED in scope:
            raise Overloaded("too many requests are waiting")
        headers = scope["headers"]
        if len(headers) > HEADERS_MAX:
            raise HeadersTooLarge(f"too many headers: at most {HEADERS_MAX}")
        if sum(len(name) + len(value) for name, value in headers) > HEADERS_MAX_BYTES:
            raise HeadersTooLarge(f"the headers are too large: at most {HEADERS_MAX_BYTES} bytes")


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found = dict(headers)
    if len(found) < len(headers):
        found.clear()
        for name, value in headers:
            found[name] = found[name] + b"," + value if name in found else value
    return found
