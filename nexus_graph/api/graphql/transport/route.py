"""POST and GET /graphql, by the GraphQL-over-HTTP standard.

The answer to a request that cannot be executed is a 4xx without data. A client that does not accept the media type of
the standard would discard such an answer, so for a fault of the document it gets a 200 with errors. The answer to a
request that was executed is a 200, also if fields failed: expected failures are data, unexpected ones are masked with a
code and a correlation id. GET serves queries only, and a cache may keep its answers (docs/adr/0008-queries-by-get.md).
"""

import re
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from graphql import OperationType
from starlette.datastructures import QueryParams
from starlette.types import Receive, Send

from nexus_graph.api.graphql.engine import (
    OBJECTS,
    TEXTS,
    Answering,
    PreparedOperation,
    Request,
    RequestError,
    error_of,
    read_request,
    refused,
)
from nexus_graph.api.graphql.transport.event_stream import stream
from nexus_graph.api.graphql.transport.negotiation import GRAPHQL_RESPONSE, Accepted, accepted
from nexus_graph.api.graphql.transport.page import PAGE
from nexus_graph.api.http.answer import (
    JSON,
    Answer,
    Header,
    StreamingAnswer,
    cacheable,
    encode,
    headers_of,
    revalidated,
)
from nexus_graph.api.http.body import decode_object
from nexus_graph.api.http.followers import Places
from nexus_graph.api.http.request import OTHER_SITES, Post, RequestId
from nexus_graph.config import Settings
from nexus_graph.errors import Code, InvalidRequest, NexusError, UnacceptableMediaType

_ALLOW: Final = ((b"allow", b"POST"),)
_SAFE_METHODS: Final = ("GET", "HEAD")
_EMPTY_IN_URLS: Final = ("", "[]", "null")
_has_bare_plus = re.compile(rb'(?:%22|")\+[0-9]').search
"""The begin of a phone number that a client did not escape."""
_CHARSET: Final = b"; charset=utf-8"
_NOT_STREAMED: Final = (
    "a subscription has many answers: accept them as text/event-stream, or subscribe over a WebSocket "
    "(graphql-transport-ws)"
)


class GraphQLRoute:
    """The endpoint."""

    def __init__(self, answering: Answering, settings: Settings, places: Places) -> None:
        self._answering = answering
        self._settings = settings
        self._places = places
        self._cache_control = settings.graphql_cache_control.encode()

    async def answer(self, post: Post) -> Answer:
        """The one answer to a request. Raises StreamingAnswer if it is to have more than one."""
        wanted = accepted(post.headers.get(b"accept"))
        by_post = post.method == "POST"
        if not by_post:
            if post.method == "HEAD":
                wanted = wanted._replace(stream=False, stream_only=False)  # it would have no end, and no body
            if post.method in _SAFE_METHODS and wanted.page and post.fault is None:
                return revalidated(PAGE, post)
        try:
            if post.fault is not None:
                raise post.fault
            request = self._read(post) if by_post else self._read_url(post)
            prepared = await self._prepare(request, post, wanted, only_reads=not by_post)
            if wanted.stream_only or prepared.kind is OperationType.SUBSCRIPTION:
                self._places.require()
                raise StreamingAnswer(partial(self._stream, prepared, post))
            answered = await self._answering.answer(prepared, post.state, post.request_id, post.visit)
        except (RequestError, NexusError) as error:
            return _refusal(error, post.request_id, wanted.media_type)
        may_be_cached = not by_post and "errors" not in answered
        if may_be_cached:
            answered["extensions"]["cost"].pop("throttleStatus", None)  # it differs each time, and the headers have it
        answer = Answer(HTTPStatus.OK, encode(answered), (wanted.media_type or JSON) + _CHARSET)
        if not may_be_cached:
            return answer
        return revalidated(cacheable(answer, self._cache_control, by_caller=not post.visit.is_open), post)

    async def _stream(self, prepared: PreparedOperation, post: Post, receive: Receive, send: Send) -> None:
        with self._places.taken():
            await stream(self._answering, prepared, post, receive, send)

    async def _prepare(self, request: Request, post: Post, wanted: Accepted, *, only_reads: bool) -> PreparedOperation:
        """What a request asks for, if it can be answered so. Raises RequestError, NexusError."""
        if wanted.media_type is None and not wanted.stream:
            raise UnacceptableMediaType(
                "answers are application/graphql-response+json or application/json, subscriptions text/event-stream"
            )
        prepared = await self._answering.prepare(request, post.state, post.visit)
        if prepared.kind is OperationType.SUBSCRIPTION and not wanted.stream:
            raise refused(Code.SUBSCRIPTION_NOT_SERVED_HERE, _NOT_STREAMED)
        if only_reads and prepared.kind is OperationType.MUTATION:
            raise refused(Code.METHOD_NOT_ALLOWED, "mutations are not served by GET: send them by POST")
        return prepared

    def _read(self, post: Post) -> Request:
        if post.body.lstrip()[:1] == b"[":
            raise refused(Code.BAD_REQUEST, "batches are not served: send one request a call")
        return read_request(decode_object(post.body))

    def _read_url(self, post: Post) -> Request:
        if post.method not in _SAFE_METHODS:
            raise refused(Code.METHOD_NOT_ALLOWED, "queries and mutations are served by POST")
        if not self._settings.graphql_get:
            raise refused(
                Code.METHOD_NOT_ALLOWED,
                "queries are not served by GET here (NEXUS_GRAPHQL_GET is false): send them by POST, as urql does with "
                "preferGetMethod: false",
            )
        if post.headers.get(b"sec-fetch-mode") == b"no-cors" and post.headers.get(b"sec-fetch-site") in OTHER_SITES:
            raise refused(Code.FORBIDDEN, "a page of another site cannot embed an answer")
        if len(post.query) > self._settings.body_max_bytes:
            raise InvalidRequest(f"the URL is too long: at most {self._settings.body_max_bytes} bytes")
        if _has_bare_plus(post.query):
            raise InvalidRequest("the URL holds a + before a digit, which means a blank there: write %2B for a +")
        return read_request(self._members_of_url(post.query))

    def _members_of_url(self, query_string: bytes) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, text in QueryParams(query_string).multi_items():
            if name in members:
                raise InvalidRequest(f"the URL names {name} twice")
            if name in TEXTS:
                members[name] = text
            elif name in OBJECTS:
                raw = text.encode(errors="surrogatepass")
                members[name] = {} if text in _EMPTY_IN_URLS else decode_object(raw, what=name)
        return members


def _refusal(error: RequestError | NexusError, request_id: RequestId, accepted: bytes | None) -> Answer:
    """A 4xx has the standard's media type for every client, which tells it from the 4xx of a proxy."""
    headers: Sequence[Header] = ()
    if isinstance(error, RequestError):
        errors: Sequence[dict[str, Any]] = error.errors
        legacy = error.of_document and accepted == JSON
    else:
        errors, legacy, headers = [error_of(error, request_id.text)], False, headers_of(error)
    status, content_type = (HTTPStatus.OK, JSON) if legacy else (error.status, GRAPHQL_RESPONSE)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = _ALLOW
    return Answer(status, encode({"errors": errors}), content_type + _CHARSET, headers)
