"""POST /graphql, by the GraphQL-over-HTTP standard, as plain ASGI.

A request that cannot be executed is answered with 4xx and no data; but a client that knows nothing of the standard's
media type would throw that answer away, so where its document is at fault it gets a 200 with errors. A request that was
executed is answered with 200, whatever its fields met: expected failures are data, the unexpected is masked with a code
and a correlation id.
"""

from http import HTTPStatus
from typing import Any, Final

import msgspec
from graphql import ExecutionResult, GraphQLError, GraphQLSchema, OperationType
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from nexus_graph.api.body import decode_object, read_json_body
from nexus_graph.api.graphql.context import Context
from nexus_graph.api.graphql.documents import BAD_USER_INPUT, Documents, RequestError, located, request_error
from nexus_graph.api.graphql.execution import Executing
from nexus_graph.api.graphql.negotiation import GRAPHQL_RESPONSE, JSON, accepts_html, media_type
from nexus_graph.api.graphql.page import PAGE, PAGE_HEADERS
from nexus_graph.api.graphql.persisted import Persisted
from nexus_graph.api.middleware import header, request_id
from nexus_graph.api.responses import HTML, encode, failure_of, graphql_extensions, respond
from nexus_graph.config import Settings
from nexus_graph.errors import InvalidRequest, NexusError, UnacceptableMediaType

_ALLOW: Final = ((b"allow", b"POST"),)
_CHARSET: Final = b"; charset=utf-8"
_BAD_REQUEST: Final = "BAD_REQUEST"


class _Request(msgspec.Struct):
    query: Any = None
    variables: Any = None
    operationName: Any = None  # noqa: N815 - the standard's name
    documentId: Any = None  # noqa: N815 - the name that its appendix proposes
    extensions: Any = None


_TEXTS: Final = ("query", "operationName", "documentId")
_OBJECTS: Final = ("variables", "extensions")
_decode = msgspec.json.Decoder(_Request).decode


class GraphQLRoute:
    """The ASGI endpoint."""

    def __init__(self, schema: GraphQLSchema, settings: Settings) -> None:
        self._settings = settings
        self._executing = Executing(schema, errors_max=settings.graphql_errors_max)
        self._documents = Documents(schema, settings)
        self._persisted = Persisted(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        accept = header(scope, b"accept")
        gets = scope["method"] == "GET" and self._settings.graphql_get and not accepts_html(accept)
        if scope["method"] != "POST" and not gets:
            await self._not_posted(scope, send, accept)
            return
        await self._answer(scope, receive, send, media_type(accept))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, accepted: bytes | None) -> None:
        try:
            if accepted is None:
                raise UnacceptableMediaType("answers are application/graphql-response+json or application/json")
            request = self._asked(scope) if scope["method"] == "GET" else await self._read(scope, receive)
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

    async def _read(self, scope: Scope, receive: Receive) -> _Request:
        raw = await read_json_body(scope, receive, limit_bytes=self._settings.body_max_bytes, type_required=True)
        if raw.lstrip()[:1] == b"[":
            raise RequestError(422, [request_error("batches are not served: send one request a call", _BAD_REQUEST)])
        request = decode_object(raw, _decode, _Request, depth_max=self._settings.json_depth_max)
        _check_shape(request)
        return request

    def _asked(self, scope: Scope) -> _Request:
        """The request that a URL holds."""
        if len(scope["query_string"]) > self._settings.body_max_bytes:
            raise InvalidRequest(f"the URL is too long: at most {self._settings.body_max_bytes} bytes")
        given = QueryParams(scope["query_string"])
        # As a body would hold it: text that is JSON already stays as it is, and is judged with the rest.
        members = [f'"{name}":{encode(given[name]).decode()}' for name in _TEXTS if name in given]
        members += [f'"{name}":{given[name]}' for name in _OBJECTS if given.get(name)]
        body = f"{{{','.join(members)}}}".encode(errors="surrogatepass")
        request = decode_object(body, _decode, _Request, depth_max=self._settings.json_depth_max)
        _check_shape(request)
        return request

    async def _execute(self, request: _Request, scope: Scope) -> dict[str, Any]:
        redis = scope["state"]["redis"]
        text = await self._persisted.text(request.query, request.documentId, request.extensions, redis)
        document = self._documents.prepare(text)
        operation = document.operation(request.operationName)
        if scope["method"] == "GET" and operation.node.operation is not OperationType.QUERY:
            raise RequestError(405, [request_error("only queries are served by GET", "METHOD_NOT_ALLOWED")])
        cost = self._documents.cost(document, operation, request.variables)
        await self._persisted.keep(text, request.extensions, redis)
        identity = scope["state"]["identity"]
        identified = request_id(scope)
        context = Context(identity.identify, identity.families, identity.listing, self._settings, identified.uuid)
        result = await self._executing.execute(document, operation, request.variables, context)
        answer = _answer(result, identified.text)
        answer["extensions"] = {"cost": {"requested": cost, "max": self._settings.graphql_cost_max}}
        return answer


def _check_shape(request: _Request) -> None:
    """Raises RequestError unless this is a well-formed GraphQL-over-HTTP request."""
    for name in (*_TEXTS, *_OBJECTS):
        value, kind = getattr(request, name), str if name in _TEXTS else dict
        if value is not None and not isinstance(value, kind):
            what = "a string" if kind is str else "an object"
            raise RequestError(422, [request_error(f"{name} must be {what}", _BAD_REQUEST)])
    try:
        (request.query or "").encode()
    except UnicodeEncodeError:
        raise InvalidRequest("query holds a lone surrogate") from None


def _answer(result: ExecutionResult, correlation_id: str) -> dict[str, Any]:
    if not result.errors:
        return {"data": result.data}
    return {"data": result.data, "errors": [_field_error(error, correlation_id) for error in result.errors]}


def _field_error(error: GraphQLError, correlation_id: str) -> dict[str, Any]:
    """An error that a field met. What we did not raise on purpose is masked."""
    cause: BaseException = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    told = located(error, BAD_USER_INPUT)
    if error.path:
        told["path"] = error.path
    if not isinstance(cause, GraphQLError):
        failure = failure_of(cause)
        told["message"] = failure.message
        told["extensions"] = graphql_extensions(failure, correlation_id)
    return told


async def _refuse(send: Send, error: RequestError, accepted: bytes | None = None) -> None:
    """A 4xx has the standard's media type for any client: so it is known to come from here, not from a proxy."""
    legacy = error.of_document and accepted == JSON
    status, content_type = (HTTPStatus.OK, JSON) if legacy else (error.status, GRAPHQL_RESPONSE)
    headers = _ALLOW if status == HTTPStatus.METHOD_NOT_ALLOWED else ()
    await respond(send, status, encode({"errors": error.errors}), content_type=content_type + _CHARSET, headers=headers)
