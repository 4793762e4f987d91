"""From a request to its answers, on any transport: find the document, judge it, price it, execute it, mask errors."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec
from graphql import ExecutionResult, GraphQLError, GraphQLSchema, OperationType

from nexus_graph.api.graphql.engine.documents import Documents, PreparedOperation
from nexus_graph.api.graphql.engine.execution import Executing
from nexus_graph.api.graphql.engine.persisted import Persisted
from nexus_graph.api.graphql.engine.refusal import RequestError, located, refused
from nexus_graph.api.graphql.schema import Context
from nexus_graph.api.http.answer import graphql_error, masked
from nexus_graph.api.http.request import RequestId
from nexus_graph.config import Settings
from nexus_graph.door.audit import Outcome, What
from nexus_graph.door.visit import Visit
from nexus_graph.door.visited import visited
from nexus_graph.errors import Code, InvalidRequest

TEXTS: Final = ("query", "operationName", "documentId")
OBJECTS: Final = ("variables", "extensions")


class Request(msgspec.Struct, gc=False):
    """What a client sends. `read_request` makes it of the members of a JSON object."""

    query: str | None = None
    variables: dict[str, Any] | None = None
    operation_name: str | None = None
    document_id: str | None = None
    """`documentId`, the name that an appendix of GraphQL over HTTP proposes."""
    extensions: dict[str, Any] | None = None


class Answering:
    """Answers requests on a schema. `state` holds what the application's lifespan opened."""

    def __init__(self, schema: GraphQLSchema, settings: Settings) -> None:
        """Raises UnusableManifest."""
        self._settings = settings
        self._executing = Executing(schema)
        self._documents = Documents(schema, settings)
        self._persisted = Persisted(settings)

    async def prepare(self, request: Request, state: Mapping[str, Any], visit: Visit) -> PreparedOperation:
        """The operation that the request asks for. Raises RequestError, InvalidRequest."""
        redis = state["redis"]
        try:
            text = await self._persisted.text(request.query, request.document_id, request.extensions, redis)
            prepared = self._documents.prepare_operation(text, request.operation_name, request.variables)
            self._persisted.keep(text, request.extensions, redis)
        except (RequestError, InvalidRequest):
            visit.note(What.QUERY, Outcome.REFUSED)
            raise
        return prepared

    async def answer(
        self, prepared: PreparedOperation, state: Mapping[str, Any], request_id: RequestId, visit: Visit
    ) -> dict[str, Any]:
        """The one answer to a query or mutation. Raises RequestError if the variables do not fit, RateLimited."""
        await visit.charge_operation(prepared.price)
        try:
            result = await self._executing.execute(prepared, self._context(state, request_id, visit))
        except RequestError:
            visit.note(What.QUERY, Outcome.REFUSED)
            raise
        return self._answered(result, prepared, request_id, visit)

    async def answers(
        self, prepared: PreparedOperation, state: Mapping[str, Any], request_id: RequestId, visit: Visit
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Every answer to a subscription, or the one to a query or mutation. Raises RequestError, RateLimited."""
        if prepared.kind is not OperationType.SUBSCRIPTION:
            yield await self.answer(prepared, state, request_id, visit)
            return
        await visit.charge_operation(prepared.price)
        context = self._context(state, request_id, visit)
        try:
            async with aclosing(self._executing.follow(prepared, context)) as results:
                async for result in results:
                    yield self._answered(result, prepared, request_id, visit)
        except RequestError:
            visit.note(What.QUERY, Outcome.REFUSED)
            raise
        except Exception as error:  # the client gets an error without its cause
            visit.note_failure(What.SUBSCRIBE, _cause(error))
            raise RequestError(Code.INTERNAL, error_of(error, request_id.text)) from error

    def _context(self, state: Mapping[str, Any], request_id: RequestId, visit: Visit) -> Context:
        return Context(visited(state["identity"], visit), self._settings, request_id.uuid, visit)

    def _answered(
        self, result: ExecutionResult, prepared: PreparedOperation, request_id: RequestId, visit: Visit
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [field_error(error, request_id.text) for error in result.errors]
        cost: dict[str, Any] = {"requested": prepared.cost, "max": self._settings.graphql_cost_max}
        standing = visit.standing
        if standing is not None:
            cost["throttleStatus"] = {
                "limit": standing.limit,
                "remaining": standing.remaining,
                "resetSeconds": standing.reset_seconds,
                "windowSeconds": standing.window_seconds,
            }
        answer["extensions"] = {"cost": cost}
        return answer


def read_request(members: Mapping[str, Any]) -> Request:
    """The request in a JSON object; other members are ignored. Raises RequestError if a member has a wrong type.

    PHP writes an empty map as `[]`, and many clients write an operation without a name as `""`.
    """
    for name in TEXTS:
        value = members.get(name)
        if value is not None and not isinstance(value, str):
            raise refused(Code.BAD_REQUEST, f"{name} must be a string")
    for name in OBJECTS:
        value = members.get(name)
        if value is not None and not isinstance(value, dict) and value != []:
            raise refused(Code.BAD_REQUEST, f"{name} must be an object")
    request = Request(
        members.get("query"),
        members.get("variables") or None,
        members.get("operationName") or None,
        members.get("documentId") or None,
        members.get("extensions") or None,
    )
    if request.query is not None and not request.query.isascii():
        try:
            request.query.encode()
        except UnicodeEncodeError:
            raise InvalidRequest("query holds a lone surrogate") from None
    return request


def error_of(error: Exception, correlation_id: str) -> dict[str, Any]:
    """The error that ended an operation, as a GraphQL error. Unexpected errors are masked."""
    if isinstance(error, GraphQLError):
        return field_error(error, correlation_id)
    return graphql_error(masked(error), correlation_id)


def field_error(error: GraphQLError, correlation_id: str) -> dict[str, Any]:
    """The error of a field. Unexpected errors are masked."""
    cause = _cause(error)
    formatted = located(error, Code.BAD_USER_INPUT)
    if error.path:
        formatted["path"] = error.path
    if not isinstance(cause, GraphQLError):
        formatted |= graphql_error(masked(cause), correlation_id)
    return formatted


def _cause(error: Exception) -> Exception:
    """What graphql-core has wrapped."""
    while isinstance(error, GraphQLError) and error.original_error is not None:
        error = error.original_error
    return error
