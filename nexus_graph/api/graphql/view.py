"""POST /graphql, by the GraphQL-over-HTTP standard.

A request that cannot be executed is answered with 4xx and no data; but a client that knows nothing of the standard's
media type would throw that answer away, so where its document is at fault it gets a 200 with errors. A request that was
executed is answered with 200, whatever its fields met: expected failures are data, the unexpected is masked with a code
and a correlation id.
"""

from http import HTTPStatus
from typing import Final

from graphql import OperationType
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from nexus_graph.api.body import decode_object, read_json_body
from nexus_graph.api.graphql.answering import BAD_REQUEST, OBJECTS, TEXTS, Answering, Asked, Request, requested
from nexus_graph.api.graphql.documents import RequestError, request_error, unexecutable
from nexus_graph.api.graphql.event_stream import stream
from nexus_graph.api.graphql.negotiation import GRAPHQL_RESPONSE, Accepted, accepted
from nexus_graph.api.graphql.page import PAGE, PAGE_HEADERS
from nexus_graph.api.middleware import Post, RequestId, header, request_id
from nexus_graph.api.responses import (
    HTML,
    JSON,
    Answer,
    AnsweredInTurn,
    encode,
    failure_of,
    graphql_extensions,
    respond,
)
from nexus_graph.config import Settings
from nexus_graph.errors import InvalidRequest, NexusError, UnacceptableMediaType

_ALLOW: Final = ((b"allow", b"POST"),)
_CHARSET: Final = b"; charset=utf-8"
_NOT_STREAMED: Final = (
    "a subscription has many answers: accept them as text/event-stream, or subscribe over a WebSocket "
    "(graphql-transport-ws)"
)


class GraphQLRoute:
    """The endpoint, direct (`direct`) and by ASGI."""

    def __init__(self, answering: Answering, settings: Settings) -> None:
        self._answering = answering
        self._settings = settings

    async def answer(self, post: Post) -> Answer:
        """The one answer to a request. Raises AnsweredInTurn if it is to have more than one."""
        wanted = accepted(post.headers.get(b"accept"))
        try:
            asked = await self._asked(post, wanted)
            if _in_turn(asked, wanted):
                raise AnsweredInTurn
            return await self._answered(asked, post, wanted)
        except (RequestError, NexusError) as error:
            return _refusal(error, post.identified, wanted.media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = accepted(header(scope, b"accept"))
        gets = scope["method"] == "GET" and self._settings.graphql_get and not wanted.page
        if scope["method"] != "POST" and not gets:
            await respond(send, *_not_posted(scope, wanted))
            return
        limit_bytes = self._settings.body_max_bytes
        try:
            if gets:
                body = _body_of_url(scope["query_string"], limit_bytes=limit_bytes)
            else:
                body = await read_json_body(scope, receive, limit_bytes=limit_bytes, type_required=True)
        except NexusError as error:
            await respond(send, *_refusal(error, request_id(scope)))
            return
        post = Post.by_asgi(scope, body)
        try:
            asked = await self._asked(post, wanted, reads=gets)
            answer = None if _in_turn(asked, wanted) else await self._answered(asked, post, wanted)
        except (RequestError, NexusError) as error:
            answer = _refusal(error, post.identified, wanted.media_type)
        if answer is None:
            await stream(self._answering, asked, self._settings, scope=scope, receive=receive, send=send)
        else:
            await respond(send, *answer)

    async def _asked(self, post: Post, wanted: Accepted, *, reads: bool = False) -> Asked:
        """What a request asks for, if it can be answered so; `reads`: it may only be a query.

        Raises RequestError, NexusError.
        """
        if wanted.media_type is None and not wanted.stream:
            raise UnacceptableMediaType(
                "answers are application/graphql-response+json or application/json, subscriptions text/event-stream"
            )
        asked = await self._answering.asked(self._read(post.body), post.state)
        if asked.kind is OperationType.SUBSCRIPTION and not wanted.stream:
            raise unexecutable([request_error(_NOT_STREAMED, "SUBSCRIPTION_NOT_SERVED_HERE")])
        if reads and asked.kind is OperationType.MUTATION:
            raise _not_allowed("mutations are not served by GET: send them by POST")
        return asked

    async def _answered(self, asked: Asked, post: Post, wanted: Accepted) -> Answer:
        told = await self._answering.answer(asked, post.state, post.identified)
        return Answer(HTTPStatus.OK, encode(told), (wanted.media_type or JSON) + _CHARSET)

    def _read(self, body: bytes) -> Request:
        if body.lstrip()[:1] == b"[":
            raise RequestError(422, [request_error("batches are not served: send one request a call", BAD_REQUEST)])
        return requested(decode_object(body, depth_max=self._settings.json_depth_max))


def _body_of_url(query_string: bytes, *, limit_bytes: int) -> bytes:
    """The request that a URL holds, as a body would hold it. Raises InvalidRequest."""
    if len(query_string) > limit_bytes:
        raise InvalidRequest(f"the URL is too long: at most {limit_bytes} bytes")
    given = QueryParams(query_string)
    # Text that is JSON already stays as it is, and is judged with the rest.
    members = [f'"{name}":{encode(given[name]).decode()}' for name in TEXTS if name in given]
    members += [f'"{name}":{given[name]}' for name in OBJECTS if given.get(name)]
    return f"{{{','.join(members)}}}".encode(errors="surrogatepass")


def _in_turn(asked: Asked, wanted: Accepted) -> bool:
    """Whether the answer is a stream: to a subscription, and to whoever takes nothing else."""
    return wanted.stream_only or asked.kind is OperationType.SUBSCRIPTION


def _not_posted(scope: Scope, wanted: Accepted) -> Answer:
    if scope["method"] in ("GET", "HEAD") and wanted.page:
        return Answer(HTTPStatus.OK, PAGE, HTML, PAGE_HEADERS)
    return _refusal(_not_allowed("only POST is served here"), request_id(scope))


def _not_allowed(message: str) -> RequestError:
    return RequestError(HTTPStatus.METHOD_NOT_ALLOWED, [request_error(message, "METHOD_NOT_ALLOWED")])


def _refusal(error: RequestError | NexusError, identified: RequestId, accepted: bytes | None = None) -> Answer:
    """A 4xx has the standard's media type for any client: so it is known to come from here, not from a proxy."""
    if isinstance(error, NexusError):
        failure = failure_of(error)
        extensions = graphql_extensions(failure, identified.text)
        error = RequestError(failure.status, [{"message": failure.message, "extensions": extensions}])
    legacy = error.of_document and accepted == JSON
    status, content_type = (HTTPStatus.OK, JSON) if legacy else (error.status, GRAPHQL_RESPONSE)
    headers = _ALLOW if status == HTTPStatus.METHOD_NOT_ALLOWED else ()
    return Answer(status, encode({"errors": error.errors}), content_type + _CHARSET, headers)
