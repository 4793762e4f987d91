"""Whole answers: what makes answers of errors, for every API, and what lets a cache keep an answer."""

import re
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import Receive, Send

from nexus_graph.api.http.request import Post
from nexus_graph.door.visit import Visit
from nexus_graph.errors import Code, MethodNotAllowed, NexusError, NotFound
from nexus_graph.telemetry import error_name, log, place

Header = tuple[bytes, bytes]

SAFE_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
NO_STORE: Final = (b"cache-control", b"no-store")

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"
HTML: Final = b"text/html; charset=utf-8"
EVENT_STREAM: Final = b"text/event-stream"
_ANY_TAG: Final = b"*"
_VARIES_BY_CALLER: Final = b"accept, authorization, x-api-key"
_tags = re.compile(rb'"[^"]*"').findall

_LOG = log("api")

encode = msgspec.json.Encoder().encode


def masked(error: BaseException) -> NexusError:
    """The error as callers may see it: any but a NexusError is masked, and logged by type and place."""
    if isinstance(error, NexusError):
        return error
    _LOG.error("unexpected_error", error=error_name(error), at=place(error))
    return NexusError("Internal error")


def headers_of(error: NexusError) -> list[Header]:
    """The headers of the error's answer: Retry-After, where there is one, and the error's own."""
    seconds = error.retry_after_seconds
    return [*([] if seconds is None else [(b"retry-after", b"%d" % seconds)]), *error.headers]


def problem(error: NexusError, correlation_id: str) -> bytes:
    """The error as application/problem+json (RFC 9457)."""
    return encode(
        {
            "type": "urn:nexus-graph:problem:" + error.code.lower().replace("_", "-"),
            "title": HTTPStatus(error.status).phrase,
            "status": error.status,
            "code": error.code,
            "detail": error.message,
            "errors": [{"field": field, "message": error.message} for field in error.fields],
            "correlationId": correlation_id,
        }
    )


def graphql_error(error: NexusError, correlation_id: str) -> dict[str, Any]:
    """The error as GraphQL has it, with a correlation id in `extensions` if it is masked."""
    extensions: dict[str, Any] = {"code": error.code, **error.facts}
    if error.fields:
        extensions["fields"] = error.fields
    if error.retry_after_seconds is not None:
        extensions["retryAfterSeconds"] = error.retry_after_seconds
    if error.code is Code.INTERNAL:
        extensions["correlationId"] = correlation_id
    return {"message": error.message, "extensions": extensions}


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Sequence[Header] = ()

    def with_headers(self, headers: Sequence[Header]) -> "Answer":
        """The answer with these headers after its own."""
        return Answer(self.status, self.body, self.content_type, (*self.headers, *headers))


class StreamingAnswer(Exception):
    """The request has several answers, one after another: only ASGI carries those."""

    def __init__(self, answers: Callable[[Receive, Send], Awaitable[None]]) -> None:
        """`answers` sends all of them."""
        super().__init__()
        self.answers = answers
        self.visit: Visit | None = None
        """The visit that began with the request, where the request is brought to ASGI again."""


def failed(error: Exception, correlation_id: str) -> Answer:
    """The answer to a request that ended in this error."""
    headers: list[Header] = []
    if isinstance(error, HTTPException):  # Starlette's router: no such path, or not by this method
        # Starlette lists the methods of Allow in the order of a set, which differs from process to process.
        headers = [
            (name.lower().encode(), ", ".join(sorted(value.split(", "))).encode())
            for name, value in (error.headers or {}).items()
        ]
        error = (NotFound if error.status_code == HTTPStatus.NOT_FOUND else MethodNotAllowed)(error.detail)
    shown = masked(error)
    return Answer(shown.status, problem(shown, correlation_id), PROBLEM, [*headers, *headers_of(shown)])


def cacheable(answer: Answer, cache_control: bytes, *, by_caller: bool = False) -> Answer:
    """The answer with a cache's headers (RFC 9111): Vary on Accept, and an ETag of every byte. `by_caller`: the answer
    depends on who asks, so it varies by credentials as well.
    """
    tag = blake2b(b"%b\n%b" % (answer.content_type, answer.body), digest_size=16).hexdigest()
    varies = _VARIES_BY_CALLER if by_caller else b"accept"
    headers = ((b"etag", b'"%b"' % tag.encode()), (b"cache-control", cache_control), (b"vary", varies))
    return answer._replace(headers=(*answer.headers, *headers))


def revalidated(answer: Answer, post: Post) -> Answer:
    """A cacheable answer; 304 without a body for a client that has it (RFC 9110, section 13)."""
    if has_tag(post, dict(answer.headers)[b"etag"]):
        return Answer(HTTPStatus.NOT_MODIFIED, b"", headers=answer.headers)
    return answer


def has_tag(post: Post, tag: bytes) -> bool:
    """Whether the client has the answer with this ETag, compared weakly (RFC 9110, section 13.1.2)."""
    known = post.headers.get(b"if-none-match")
    return known is not None and (known.strip() == _ANY_TAG or tag.removeprefix(b"W/") in _tags(known))
