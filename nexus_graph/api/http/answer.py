"""Whole answers, and the one table that makes answers of errors, for every API."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import Receive, Send

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
    """The parts of an error's answer, on any transport."""

    status: int
    code: str
    message: str
    fields: tuple[str, ...] = ()
    retry_after_seconds: int | None = None
    facts: Mapping[str, int] = MappingProxyType({})
    """More members of `extensions` in GraphQL."""

    def headers(self) -> list[Header]:
        """Retry-After, where there is one."""
        seconds = self.retry_after_seconds
        return [] if seconds is None else [(b"retry-after", b"%d" % seconds)]


def failure_of(error: BaseException) -> Failure:
    """The table: a NexusError shows its code and message; any other error is masked, and logged by type and place."""
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
    """The failure as `extensions` of a GraphQL error, with a correlation id if the error is masked."""
    extensions: dict[str, Any] = {"code": failure.code, **failure.facts}
    if failure.fields:
        extensions["fields"] = failure.fields
    if failure.retry_after_seconds is not None:
        extensions["retryAfterSeconds"] = failure.retry_after_seconds
    if failure.code == MASKED_CODE:
        extensions["correlationId"] = correlation_id
    return extensions


class Answer(NamedTuple):
    """A whole answer, for either carrier."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Sequence[Header] = ()


class AnsweredInTurn(Exception):
    """The request has several answers, one after another: only ASGI carries those."""

    def __init__(self, answers: Callable[[Receive, Send], Awaitable[None]]) -> None:
        """`answers` sends all of them."""
        super().__init__()
        self.answers = answers


def failed(error: Exception, correlation_id: str) -> Answer:
    """The answer to a request that ended in this error."""
    if isinstance(error, HTTPException):  # Starlette's router: no such path, or not by this method
        code = _HTTP_CODES.get(error.status_code, Code.BAD_REQUEST)
        failure = Failure(error.status_code, code, error.detail)
        headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    else:
        failure = failure_of(error)
        headers = failure.headers()
    return Answer(failure.status, problem(failure, correlation_id), PROBLEM, headers)
