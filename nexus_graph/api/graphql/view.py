"""POST /graphql, by the GraphQL-over-HTTP standard.

A request that cannot be executed is answered with 4xx and no data; but a client that knows nothing of the standard's
media type would throw that answer away, so where its document is at fault it gets a 200 with errors. A request that was
executed is answered with 200, whatever its fields met: expected failures are data, the unexpected is masked with a code
and a correlation id.
"""

from http import HTTPStatus
from typing import Final

import msgspec
from graphql import OperationType
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from nexus_graph.api.body import decode_object, read_json_body
from nexus_graph.api.graphql.answering import BAD_REQUEST, OBJECTS, TEXTS, Answering, Request, check_shape
from nexus_graph.api.graphql.documents import RequestError, request_error, unexecutable
from nexus_graph.api.graphql.event_stream import stream
from nexus_graph.api.graphql.negotiation import GRAPHQL_RESPONSE, accepts_html, media_type
from nexus_graph.api.graphql.page import PAGE, PAGE_HEADERS
from nexus_graph.api.middleware import Post, RequestId, header, request_id
from nexus_graph.api.responses import HTML, JSON, Answer, encode, failure_of, graphql_extensions, respond, wants_stream
from nexus_graph.config import Settings
from nexus_graph.errors import InvalidRequest, NexusError, UnacceptableMediaType

_ALLOW: Final = ((b"allow", b"POST"),)
_CHARSET: Final = b"; charset=utf-8"


_decode = msgspec.json.Decoder(Request).decode


class GraphQLRoute:
    """The endpoint, direct (`direct`) and by ASGI."""

    def __init__(self, answering: Answering, settings: Settings) -> None:
        self._answering = answering
        self._settings = settings

    async def answer(self, post: Post, *, reads: bool = False) -> Answer:
        """The one answer to a request; `reads`: it may only be a query."""
        accepted = media_type(post.headers.get(b"accept"))
        try:
            if accepted is None:
                raise UnacceptableMediaType("answers are application/graphql-response+json or application/json")
            asked = await self._answering.asked(self._read(post.body), post.state)
            if asked.kind is OperationType.SUBSCRIPTION:
                message = "subscriptions are served over graphql-transport-ws, or as text/event-stream"
                raise unexecutable([request_error(message, "SUBSCRIPTION_NOT_SERVED_HERE")])
            if reads and asked.kind is not OperationType.QUERY:
                raise _not_allowed("only queries are served by GET")
            told = await self._answering.answer(asked, post.state, post.identified)
        except (RequestError, NexusError) as error:
            return _refusal(error, post.identified, accepted)
        return Answer(HTTPStatus.OK, encode(told), accepted + _CHARSET)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        accept = header(scope, b"accept")
        gets = scope["method"] == "GET" and self._settings.graphql_get and not accepts_html(accept)
        if scope["method"] != "POST" and not gets:
            await respond(send, *_not_posted(scope, accept))
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
        if wants_stream(accept) and not gets:
            await self._stream(body, scope, receive, send)
        else:
            await respond(send, *await self.answer(Post.by_asgi(scope, body), reads=gets))

    async def _stream(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            asked = await self._answering.asked(self._read(body), scope["state"])
        except (RequestError, NexusError) as error:
            await respond(send, *_refusal(error, request_id(scope)))
        else:
            await stream(self._answering, asked, self._settings, scope=scope, receive=receive, send=send)

    def _read(self, body: bytes) -> Request:
        if body.lstrip()[:1] == b"[":
            raise RequestError(422, [request_error("batches are not served: send one request a call", BAD_REQUEST)])
        request = decode_object(body, _decode, Request, depth_max=self._settings.json_depth_max)
        check_shape(request)
        return request


def _body_of_url(query_string: bytes, *, limit_bytes: int) -> bytes:
    """The request that a URL holds, as a body would hold it. Raises InvalidRequest."""
    if len(query_string) > limit_bytes:
        raise InvalidRequest(f"the URL is too long: at most {limit_bytes} bytes")
    given = QueryParams(query_string)
    # Text that is JSON already stays as it is, and is judged with the rest.
    members = [f'"{name}":{encode(given[name]).decode()}' for name in TEXTS if name in given]
    members += [f'"{name}":{given[name]}' for name in OBJECTS if given.get(name)]
    return f"{{{','.join(members)}}}".encode(errors="surrogatepass")


def _not_posted(scope: Scope, accept: bytes | None) -> Answer:
    if scope["method"] in ("GET", "HEAD") and accepts_html(accept):
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
