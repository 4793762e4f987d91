"""The frame of every request by ASGI: a request id, bounded headers, an answer in any case, a metric, safe headers.

One plain ASGI layer does it all, in place of Starlette's two.
"""

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nexus_graph.api.http.answer import NO_STORE, SAFE_HEADERS, failed
from nexus_graph.api.http.body import ClientGone
from nexus_graph.api.http.carrier import respond
from nexus_graph.api.http.observing import Observing
from nexus_graph.api.http.request import RequestId, header
from nexus_graph.config import Settings
from nexus_graph.errors import HeadersTooLarge, Overloaded
from nexus_graph.telemetry import CORRELATION_ID

REFUSED: Final = "nexus_graph.refused"
"""A key of the scope: the connection has found that the request cannot be answered in time."""

HEADERS_MAX: Final = 100
"""Headers of one request: browsers behind several proxies send thirty."""

_NO_ROUTE: Final = "none"


class Envelope:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute], settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._templates = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
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
        identity = scope["request_id"] = RequestId(header(scope, b"x-request-id"))
        correlation_id = identity.text
        CORRELATION_ID.set(correlation_id)
        envelope = ((b"x-request-id", correlation_id.encode()), *SAFE_HEADERS)
        status = 0

        async def send_enveloped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].extend(envelope)
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append(NO_STORE)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, send_enveloped)
        except ClientGone:
            status = 499
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer that tells nothing of it
            answer = failed(error, correlation_id)
            if status == 0:
                await respond(send_enveloped, answer)
        finally:
            template = self._templates.get(scope["endpoint"], _NO_ROUTE) if "endpoint" in scope else _NO_ROUTE
            self._observe(template, status, perf_counter() - started, identity)

    def _check(self, scope: Scope) -> None:
        if REFUSED in scope:
            raise Overloaded("too many requests are waiting")
        headers = scope["headers"]
        if len(headers) > HEADERS_MAX:
            raise HeadersTooLarge(f"too many headers: at most {HEADERS_MAX}")
        if sum(len(name) + len(value) for name, value in headers) > self._settings.headers_max_bytes:
            raise HeadersTooLarge(f"the headers are too large: at most {self._settings.headers_max_bytes} bytes")


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found = dict(headers)
    if len(found) < len(headers):
        found.clear()
        for name, value in headers:
            found[name] = found[name] + b"," + value if name in found else value
    return found
