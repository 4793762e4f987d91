"""What every HTTP request gets: a correlation id, bounded headers, an answer whatever happens, a metric, safe headers.

One plain ASGI layer does it all, in place of Starlette's two: it is on the hot path.
"""

import asyncio
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from asyncpg.pgproto import pgproto
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nexus_graph.api.body import ClientGone
from nexus_graph.api.responses import PROBLEM, Answer, Failure, failure_of, problem, respond
from nexus_graph.config import Settings
from nexus_graph.errors import HeadersTooLarge
from nexus_graph.telemetry import CORRELATION_ID, REQUEST_DURATION, log

_LOG = log("api")
_is_sane_id = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch
_is_uuid = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch

SAFE_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
OTHER_SITES: Final = (b"cross-site", b"same-site")
"""What browsers say in Sec-Fetch-Site of a page that does not come from here."""
NO_STORE: Final = (b"cache-control", b"no-store")
_NO_ROUTE: Final = "none"
_HTTP_CODES: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}

# Of a UUID: version 4, variant 1 (RFC 9562).
_UUID_FREE: Final = ~(0xF000 << 64 | 0xC000 << 48)
_UUID_SET: Final = 0x4000 << 64 | 0x8000 << 48


class RequestId:
    """The id of one request: `text` for headers and logs, `uuid` for the record's events."""

    __slots__ = ("_given", "_text", "_uuid")

    def __init__(self, given: bytes | None) -> None:
        """`given` is the caller's X-Request-ID. It is used if it is harmless, and as the UUID too if it is one."""
        self._given = given if given is not None and _is_sane_id(given) else None
        self._uuid: UUID | None = None
        self._text: str | None = None

    @property
    def uuid(self) -> UUID:
        if self._uuid is None:
            if self._given is not None and _is_uuid(self._given):
                self._uuid = UUID(self._given.decode())
            else:
                # It tells requests apart and guards nothing: the cheap generator will do. asyncpg's UUID is one of
                # the standard library's that is made, written and sent in a fifth of the time.
                self._uuid = pgproto.UUID((random.getrandbits(128) & _UUID_FREE | _UUID_SET).to_bytes(16, "big"))
        return self._uuid

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = str(self.uuid) if self._given is None else self._given.decode()
        return self._text


class Post(NamedTuple):
    """A whole request with a body, by whichever way it came."""

    body: bytes
    headers: Mapping[bytes, bytes]
    """By name in lower case."""
    identified: RequestId
    state: Mapping[str, Any]
    """What the application's lifespan opened."""

    @classmethod
    def by_asgi(cls, scope: Scope, body: bytes) -> Self:
        """That of a scope which `Envelope` let in."""
        return cls(body, scope["header"], scope["request_id"], scope["state"])


def request_id(scope: Scope) -> RequestId:
    """The id of the request that `Envelope` let in."""
    found: RequestId = scope["request_id"]
    return found


def header(scope: Scope, wanted: bytes) -> bytes | None:
    """The header of this lower-case name, its lines joined as one list; None if there is none."""
    found: bytes | None = scope["header"].get(wanted)
    return found


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found = dict(headers)
    if len(found) < len(headers):
        found.clear()
        for name, value in headers:
            found[name] = found[name] + b"," + value if name in found else value
    return found


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
                # Answered, and not redirected: the scheme and host that a client knows may not be those known here.
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
            self._check_headers(scope)
            await self._app(scope, receive, send_enveloped)
        except ClientGone:
            status = 499
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer that tells nothing of it
            answer = failed(error, correlation_id)
            if status == 0:
                await respond(send_enveloped, *answer)
        finally:
            template = self._templates.get(scope["endpoint"], _NO_ROUTE) if "endpoint" in scope else _NO_ROUTE
            self._observe(template, status, perf_counter() - started, identity)

    def _check_headers(self, scope: Scope) -> None:
        headers = scope["headers"]
        if len(headers) > self._settings.headers_max_count:
            raise HeadersTooLarge(f"too many headers: at most {self._settings.headers_max_count}")
        if sum(len(name) + len(value) for name, value in headers) > self._settings.headers_max_bytes:
            raise HeadersTooLarge(f"the headers are too large: at most {self._settings.headers_max_bytes} bytes")


class Observing:
    """What is counted, and logged, of every request that was answered."""

    def __init__(self, settings: Settings) -> None:
        self._slow_seconds = settings.slow_request_seconds
        self._just_answered: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        """In seconds, what took how long to answer in this turn of the loop, by route and class of status."""

    def __call__(self, template: str, status: int, seconds: float, identified: RequestId) -> None:
        """`template` is the route's path; `status` 0 means that there was no answer."""
        if not self._just_answered:
            asyncio.get_running_loop().call_soon(self._count)
        self._just_answered[template, (status or 500) // 100].append(seconds)
        failed = status >= 500 or status == 0
        if not failed and seconds <= self._slow_seconds:
            return
        facts = {"route": template, "status": status, "seconds": round(seconds, 4), "correlation_id": identified.text}
        if failed:
            _LOG.error("request_failed", **facts)
        else:
            _LOG.warning("request_slow", **facts)

    def _count(self) -> None:
        # All of a turn at once: a batch is answered in one. Each by itself is an eighth of a known identify's Python.
        just_answered, self._just_answered = self._just_answered, defaultdict(list)
        for (template, hundreds), seconds in just_answered.items():
            REQUEST_DURATION.labels(template, f"{hundreds}xx").observe_all(seconds)


def failed(error: Exception, correlation_id: str) -> Answer:
    """What a caller is answered whose request ended in this error."""
    if isinstance(error, HTTPException):  # Starlette's router: no such path, or not by this method
        code = _HTTP_CODES.get(error.status_code, "BAD_REQUEST")
        failure = Failure(error.status_code, code, error.detail)
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    else:
        failure = failure_of(error)
        headers = failure.headers()
    return Answer(failure.status, problem(failure, correlation_id), PROBLEM, headers)
