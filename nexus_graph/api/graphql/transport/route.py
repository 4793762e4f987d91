"""POST and GET /graphql, by the GraphQL-over-HTTP standard.

The answer to a request that cannot be executed is a 4xx without data. A client that does not accept the media type of
the standard would discard such an answer, so for a fault of the document it gets a 200 with errors. The answer to a
request that was executed is a 200, also if fields failed: expected failures are data, unexpected ones are masked with a
code and a correlation id. GET serves queries only, and a cache may keep its answers (docs/adr/0008-queries-by-get.md).
"""

import re
from collections.abc import Mapping, Sequence
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
    Asked,
    Request,
    RequestError,
    request_error,
    requested,
    unexecutable,
)
from nexus_graph.api.graphql.transport.event_stream import stream
from nexus_graph.api.graphql.transport.negotiation import GRAPHQL_RESPONSE, Accepted, accepted
from nexus_graph.api.graphql.transport.page import PAGE
from nexus_graph.api.graphql.transport.places import Places
from nexus_graph.api.http.answer import JSON, Answer, AnsweredInTurn, Header, encode, failure_of, graphql_extensions
from nexus_graph.api.http.body import DEPTH_MAX, decode_object
from nexus_graph.api.http.kept import kept, unless_had
from nexus_graph.api.http.request import OTHER_SITES, Post, RequestId
from nexus_graph.config import Settings
from nexus_graph.errors import Code, InvalidRequest, NexusError, UnacceptableMediaType

_ALLOW: Final = ((b"allow", b"POST"),)
_LOOKING: Final = ("GET", "HEAD")
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
        """The one answer to a request. Raises AnsweredInTurn if it is to have more than one."""
        wanted = accepted(post.headers.get(b"accept"))
        if post.method != "POST":
            return await self._looked(post, wanted)
        try:
            if post.fault is not None:
                raise post.fault
            asked = await self._asked(self._read(post.body), post.state, wanted)
            if _in_turn(asked, wanted):
                raise self._several(asked, post)
            return _whole(await self._answering.answer(asked, post.state, post.identified), wanted)
        except (RequestError, NexusError) as error:
            return _refusal(error, post.identified, wanted.media_type)

    async def _looked(self, post: Post, wanted: Accepted) -> Answer:
        """The answer to any method but POST."""
        if post.method == "HEAD":
            wanted = wanted._replace(stream=False, stream_only=False)  # it would have no end, and no body
        if post.method in _LOOKING and wanted.page:
            return unless_had(PAGE, post)
        try:
            if post.method not in _LOOKING:
                raise _not_allowed("queries and mutations are served by POST")
            asked = await self._asked(self._read_url(post), post.state, wanted, only_reads=True)
            if _in_turn(asked, wanted):
                raise self._several(asked, post)
            answered = await self._answering.answer(asked, post.state, post.identified)
        except (RequestError, NexusError) as error:
            return _refusal(error, post.identified, wanted.media_type)
        answer = _whole(answered, wanted)
        return answer if "errors" in answered else unless_had(kept(answer, self._cache_control), post)

    def _several(self, asked: Asked, post: Post) -> AnsweredInTurn:
        """Raises Overloaded if there is no place for another stream."""
        self._places.require()
        return AnsweredInTurn(partial(self._stream, asked, post))

    async def _stream(self, asked: Asked, post: Post, receive: Receive, send: Send) -> None:
        with self._places.taken():
            await stream(self._answering, asked, post, receive, send, settings=self._settings)

    async def _asked(
        self, request: Request, state: Mapping[str, Any], wanted: Accepted, *, only_reads: bool = False
    ) -> Asked:
        """What a request asks for, if it can be answered so. Raises RequestError, NexusError."""
        if wanted.media_type is None and not wanted.stream:
            raise UnacceptableMediaType(
                "answers are application/graphql-response+json or application/json, subscriptions text/event-stream"
            )
        asked = await self._answering.asked(request, state)
        if asked.kind is OperationType.SUBSCRIPTION and not wanted.stream:
            raise unexecutable([request_error(_NOT_STREAMED, Code.SUBSCRIPTION_NOT_SERVED_HERE)])
        if only_reads and asked.kind is OperationType.MUTATION:
            raise _not_allowed("mutations are not served by GET: send them by POST")
        return asked

    def _read(self, body: bytes) -> Request:
        if body.lstrip()[:1] == b"[":
            raise RequestError(
                422, [request_error("batches are not served: send one request a call", Code.BAD_REQUEST)]
            )
        return requested(decode_object(body, depth_max=DEPTH_MAX))

    def _read_url(self, post: Post) -> Request:
        if not self._settings.graphql_get:
            raise _not_allowed(
                "queries are not served by GET here (NEXUS_GRAPHQL_GET is false): send them by POST, as urql does with "
                "preferGetMethod: false"
            )
        if post.headers.get(b"sec-fetch-mode") == b"no-cors" and post.headers.get(b"sec-fetch-site") in OTHER_SITES:
            message = "a page of another site cannot embed an answer"
            raise RequestError(HTTPStatus.FORBIDDEN, [request_error(message, Code.FORBIDDEN)])
        if len(post.query) > self._settings.body_max_bytes:
            raise InvalidRequest(f"the URL is too long: at most {self._settings.body_max_bytes} bytes")
        if _has_bare_plus(post.query):
            raise InvalidRequest("the URL holds a + before a digit, which means a blank there: write %2B for a +")
        return requested(self._members_of_url(post.query))

    def _members_of_url(self, query_string: bytes) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, text in QueryParams(query_string).multi_items():
            if name in members:
                raise InvalidRequest(f"the URL names {name} twice")
            if name in TEXTS:
                members[name] = text
            elif name in OBJECTS:
                members[name] = self._object_of_url(name, text)
        return members

    def _object_of_url(self, name: str, text: str) -> dict[str, Any]:
        if text in _EMPTY_IN_URLS:
            return {}
        raw = text.encode(errors="surrogatepass")
        return decode_object(raw, depth_max=DEPTH_MAX, what=name)


def _in_turn(asked: Asked, wanted: Accepted) -> bool:
    """Whether the answer is a stream: for a subscription, and for a client that accepts nothing else."""
    return wanted.stream_only or asked.kind is OperationType.SUBSCRIPTION


def _whole(answer: dict[str, Any], wanted: Accepted) -> Answer:
    return Answer(HTTPStatus.OK, encode(answer), (wanted.media_type or JSON) + _CHARSET)


def _not_allowed(message: str) -> RequestError:
    return RequestError(HTTPStatus.METHOD_NOT_ALLOWED, [request_error(message, Code.METHOD_NOT_ALLOWED)])


def _refusal(error: RequestError | NexusError, identified: RequestId, accepted: bytes | None = None) -> Answer:
    """A 4xx has the standard's media type for every client, which tells it from the 4xx of a proxy."""
    headers: Sequence[Header] = ()
    if isinstance(error, NexusError):
        failure = failure_of(error)
        headers = failure.headers()
        extensions = graphql_extensions(failure, identified.text)
        error = RequestError(failure.status, [{"message": failure.message, "extensions": extensions}])
    legacy = error.of_document and accepted == JSON
    status, content_type = (HTTPStatus.OK, JSON) if legacy else (error.status, GRAPHQL_RESPONSE)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = _ALLOW
    return Answer(status, encode({"errors": error.errors}), content_type + _CHARSET, headers)
