"""From the text of a document to something that can be executed: tokens, gate, validation; remembered by its text."""

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    parse,
    specified_rules,
    validate,
)
from graphql.validation import VariablesInAllowedPositionRule

from nexus_graph.api.graphql import gate
from nexus_graph.api.graphql.leniency import StringsAreIdentifiersRule
from nexus_graph.config import Settings

PARSE_FAILED: Final = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED: Final = "GRAPHQL_VALIDATION_FAILED"
LIMIT_EXCEEDED: Final = "LIMIT_EXCEEDED"
OPERATION_UNKNOWN: Final = "OPERATION_RESOLUTION_FAILURE"

_RULES: Final = [
    StringsAreIdentifiersRule if rule is VariablesInAllowedPositionRule else rule for rule in specified_rules
]

# Where graphql-core repeats what the document or its variables hold. Identifiers may stand there.
_quoted_value = re.compile(
    r"(?:, but encountered error|[,;.] ?[fF]ound:).*"
    r"|(cannot represent [^:]+): .*"
    r"|\b(String|BlockString|Int|Float) ['\"].*",
    re.DOTALL,
)


class RequestError(Exception):
    """The request cannot be executed: `errors` are GraphQL errors in their JSON form, `status` is the HTTP status."""

    def __init__(self, status: int, errors: list[dict[str, Any]]) -> None:
        super().__init__()
        self.status = status
        self.errors = errors


class Document(NamedTuple):
    """A document that may be executed, and its operations by name."""

    ast: DocumentNode
    operations: dict[str | None, OperationDefinitionNode]

    def name_of(self, wanted: str | None) -> str | None:
        """The operation to execute: the one asked for, or the only one. Raises RequestError."""
        if wanted in self.operations:
            return wanted
        if wanted is None and len(self.operations) == 1:
            return None
        message = "the document has several operations: say operationName"
        raise RequestError(
            422, [request_error(message if wanted is None else "the document has no such operation", OPERATION_UNKNOWN)]
        )


class Documents:
    """Prepares documents. Those that may be executed are remembered, the least recently used forgotten first."""

    def __init__(self, schema: GraphQLSchema, settings: Settings) -> None:
        self._schema = schema
        self._settings = settings
        self.prepare = lru_cache(maxsize=settings.graphql_documents_remembered)(self._prepare)

    def _prepare(self, text: str) -> Document:
        """Raises RequestError."""
        settings = self._settings
        if len(text.encode()) > settings.graphql_document_max_bytes:
            most = settings.graphql_document_max_bytes
            raise RequestError(422, [_limit(f"the document is too long: at most {most} bytes", "bytes", most)])
        try:
            ast = parse(text, max_lexical_tokens=settings.graphql_document_max_tokens)
        except GraphQLError as error:
            raise RequestError(400, [located(error, PARSE_FAILED)]) from None
        try:
            gate.check(ast, settings)
        except gate.LimitPassed as passed:
            raise RequestError(422, [_limit(passed.message, passed.limit, passed.most)]) from None
        errors = validate(self._schema, ast, _RULES, settings.graphql_errors_max, hide_suggestions=True)
        if errors:
            raise RequestError(422, [located(error, VALIDATION_FAILED) for error in errors])
        operations = [node for node in ast.definitions if isinstance(node, OperationDefinitionNode)]
        return Document(ast, {node.name.value if node.name else None: node for node in operations})


def request_error(message: str, code: str) -> dict[str, Any]:
    """An error about the request as a whole."""
    return {"message": message, "extensions": {"code": code}}


def located(error: GraphQLError, code: str) -> dict[str, Any]:
    """graphql-core's error about the request, without the values that it quotes."""
    told: dict[str, Any] = request_error(_quoted_value.sub(r"\1\2.", error.message), code)
    if error.locations:
        told["locations"] = [{"line": line, "column": column} for line, column in error.locations]
    return told


def _limit(message: str, limit: str, most: int) -> dict[str, Any]:
    return {"message": message, "extensions": {"code": LIMIT_EXCEEDED, "limit": limit, "max": most}}
