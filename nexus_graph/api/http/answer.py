"""Errors as answers: the one table for both APIs, and the plain ASGI messages that carry every answer."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import Send

from nexus_graph.errors import Code, NexusError
from nexus_graph.telemetry import error_name, log, place

Header = tuple[bytes, bytes]

SAFE_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
NO_STORE: Final = (b"cache-control", b"no-store")

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"
HTML: Final = b"text/html; charset=utf-8"
EVENT_STREAM: Final = b"text/event-stream"
_HTTP_CODES: Final = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}
MASKED_CODE: Final = Code.INTERNAL
MASKED_MESSAGE: Final = "Internal error"

_LOG = log("api")

encode = msgspec.json.Encoder().encode


class Failure(NamedTuple):
    """What a caller is told of an error, on any transport."""

    status: int
    code: str
    message: str
    fields: tuple[str, ...] = ()
    retry_after_seconds: int | None = None
    facts: Mapping[str, int] = MappingProxyType({})
    """What GraphQL tells besides."""

    def headers(self) -> list[Header]:
        """Retry-After, where there is one."""
        seconds = self.retry_after_seconds
        return [] if seconds is None else [(b"retry-after", b"%d" % seconds)]


def failure_of(error: BaseException) -> Failure:
    """The table: a NexusError tells its code and message; anything else is masked, and logged by its type and place."""
    if isinstance(error, NexusError):
        return Failure(error.status, error.code, error.message, error.fields, error.retry_after_seconds, error.facts)
    _LOG.error("unexpected_error", error=error_name(error), at=place(error))
    return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, MASKED_CODE, MASKED_MESSAGE)


def problem(failure: Failure, correlation_id: str) -> bytes:
    """The failure as application/problem+json (RFC 9457)."""
    return encode(
        {
            "type": "urn:nexus-graph:problem:" + failure.code.lower().replace("_", "-"),
            "title": HTTPStatus(failure.status).phrase,
            "status": failure.status,
            "code": failure.code,
            "detail": failure.message,
            "errors": [{"field": field, "message": failure.message} for field in failure.fields],
            "correlationId": correlation_id,
        }
    )


def graphql_extensions(failure: Failure, correlation_id: str) -> dict[str, Any]:
    """The failure as `extensions` of a GraphQL error. The correlation id is told where only the log knows more."""
    extensions: dict[str, Any] = {"code": failure.code, **failure.facts}
    if failure.fields:
        extensions["fields"] = failure.fields
    if failure.retry_after_seconds is not None:
        extensions["retryAfterSeconds"] = failure.retry_after_seconds
    if failure.code == MASKED_CODE:
        extensions["correlationId"] = correlation_id
    return extensions


class Answer(NamedTuple):
    """A whole answer, whoever carries it."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Sequence[Header] = ()


class AnsweredInTurn(Exception):
    """The request is answered by several answers, one after another: only ASGI carries those."""


def failed(error: Exception, correlation_id: str) -> Answer:
    """What a caller is answered whose request ended in this error."""
    if isinstance(error, HTTPException):  # Starlette's router: no such path, or not by this method
        code = _HTTP_CODES.get(error.status_code, Code.BAD_REQUEST)
        failure = Failure(error.status_code, code, error.detail)
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    else:
        failure = failure_of(error)
        headers = failure.headers()
    return Answer(failure.status, problem(failure, correlation_id), PROBLEM, headers)


async def respond(
    send: Send, status: int, body: bytes, content_type: bytes = JSON, headers: Iterable[Header] = ()
) -> None:
    """Send a whole answer: an `Answer`, or its parts."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def not_modified(send: Send, headers: Iterable[Header]) -> None:
    """Send 304: the client has the answer of these headers."""
    await send({"type": "http.response.start", "status": HTTPStatus.NOT_MODIFIED, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b""})
