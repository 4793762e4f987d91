"""POST /graphql, by the GraphQL-over-HTTP standard, as plain ASGI.

A request that cannot be executed is answered with 4xx and no data; but a client that knows nothing of the standard's
media type would throw that answer away, so where its document is at fault it gets a 200 with errors. A request that was
executed is answered with 200, whatever its fields met: expected failures are data, the unexpected is masked with a code
and a correlation id.
"""

from http import HTTPStatus
from typing import Any, Final

import msgspec
from graphql import OperationType
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from nexus_graph.api.body import decode_object, read_json_body
from nexus_graph.api.graphql.answering import BAD_REQUEST, OBJECTS, TEXTS, Answering, Request, check_shape
from nexus_graph.api.graphql.documents import RequestError, request_error, unexecutable
from nexus_graph.api.graphql.event_stream import EVENT_STREAM, stream
from nexus_graph.api.graphql.negotiation import GRAPHQL_RESPONSE, JSON, accepts_html, media_type
from nexus_graph.api.graphql.page import PAGE, PAGE_HEADERS
from nexus_graph.api.middleware import header, request_id
from nexus_graph.api.responses import HTML, encode, failure_of, graphql_extensions, respond
from nexus_graph.config import Settings
from nexus_graph.errors import InvalidRequest, NexusError, UnacceptableMediaType

_ALLOW: Final = ((b"allow", b"POST"),)
_CHARSET: Final = b"; charset=utf-8"


_decode = msgspec.json.Decoder(Request).decode


class GraphQLRoute:
    """The ASGI endpoint."""

    def __init__(self, answering: Answering, settings: Settings) -> None:
        self._answering = answering
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        accept = header(scope, b"accept")
        gets = scope["method"] == "GET" and self._settings.graphql_get and not accepts_html(accept)
        if scope["method"] != "POST" and not gets:
            await self._not_posted(scope, send, accept)
            return
        streams = scope["method"] == "POST" and accept is not None and EVENT_STREAM in accept
        await self._answer(scope, receive, send, EVENT_STREAM if streams else media_type(accept))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, accepted: bytes | None) -> None:
        try:
            if accepted is None:
                raise UnacceptableMediaType("answers are application/graphql-response+json or application/json")
            request = self._asked(scope) if scope["method"] == "GET" else await self._read(scope, receive)
            if accepted == EVENT_STREAM:
                asked = await self._answering.asked(request, scope["state"])
                await stream(self._answering, asked, self._settings, scope=scope, receive=receive, send=send)
                return
            answer = await self._execute(request, scope)
        except RequestError as error:
            await _refuse(send, error, accepted)
        except NexusError as error:
            failure = failure_of(error)
            extensions = graphql_extensions(failure, request_id(scope).text)
            errors = [{"message": failure.message, "extensions": extensions}]
            await _refuse(send, RequestError(failure.status, errors))
        else:
            await respond(send, HTTPStatus.OK, encode(answer), content_type=accepted + _CHARSET)

    async def _not_posted(self, scope: Scope, send: Send, accept: bytes | None) -> None:
        if scope["method"] in ("GET", "HEAD") and accepts_html(accept):
            await respond(send, HTTPStatus.OK, PAGE, content_type=HTML, headers=PAGE_HEADERS)
        else:
            errors = [request_error("only POST is served here", "METHOD_NOT_ALLOWED")]
            await _refuse(send, RequestError(HTTPStatus.METHOD_NOT_ALLOWED, errors))

    async def _read(self, scope: Scope, receive: Receive) -> Request:
        raw = await read_json_body(scope, receive, limit_bytes=self._settings.body_max_bytes, type_required=True)
        if raw.lstrip()[:1] == b"[":
            raise RequestError(422, [request_error("batches are not served: send one request a call", BAD_REQUEST)])
        request = decode_object(raw, _decode, Request, depth_max=self._settings.json_depth_max)
        check_shape(request)
        return request

    def _asked(self, scope: Scope) -> Request:
        """The request that a URL holds."""
        if len(scope["query_string"]) > self._settings.body_max_bytes:
            raise InvalidRequest(f"the URL is too long: at most {self._settings.body_max_bytes} bytes")
        given = QueryParams(scope["query_string"])
        # As a body would hold it: text that is JSON already stays as it is, and is judged with the rest.
        members = [f'"{name}":{encode(given[name]).decode()}' for name in TEXTS if name in given]
        members += [f'"{name}":{given[name]}' for name in OBJECTS if given.get(name)]
        body = f"{{{','.join(members)}}}".encode(errors="surrogatepass")
        request = decode_object(body, _decode, Request, depth_max=self._settings.json_depth_max)
        check_shape(request)
        return request

    async def _execute(self, request: Request, scope: Scope) -> dict[str, Any]:
        state = scope["state"]
        asked = await self._answering.asked(request, state)
        if asked.kind is OperationType.SUBSCRIPTION:
            message = "subscriptions are served over graphql-transport-ws, or as text/event-stream"
            raise unexecutable([request_error(message, "SUBSCRIPTION_NOT_SERVED_HERE")])
        if scope["method"] == "GET" and asked.kind is not OperationType.QUERY:
            raise RequestError(405, [request_error("only queries are served by GET", "METHOD_NOT_ALLOWED")])
        return await self._answering.answer(asked, state, request_id(scope))


async def _refuse(send: Send, error: RequestError, accepted: bytes | None = None) -> None:
    """A 4xx has the standard's media type for any client: so it is known to come from here, not from a proxy."""
    legacy = error.of_document and accepted == JSON
    status, content_type = (HTTPStatus.OK, JSON) if legacy else (error.status, GRAPHQL_RESPONSE)
    headers = _ALLOW if status == HTTPStatus.METHOD_NOT_ALLOWED else ()
    await respond(send, status, encode({"errors": error.errors}), content_type=content_type + _CHARSET, headers=headers)
