"""From the text of a document to operations that can be executed: parsed, measured, validated, and kept by the text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, Final, NamedTuple

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    parse,
    specified_rules,
    validate,
)
from graphql.validation import VariablesInAllowedPositionRule

from nexus_graph.api.graphql.engine import gate
from nexus_graph.api.graphql.engine.leniency import StringsAreIdentifiersRule
from nexus_graph.api.graphql.engine.plans import Plan, compile_operation
from nexus_graph.api.graphql.engine.refusal import located, request_error, unexecutable
from nexus_graph.config import Settings
from nexus_graph.errors import Code

ERRORS_MAX: Final = 10
"""Errors that a response lists: a client that mends those can ask again."""

_TOKENS_MAX: Final = 1_000
"""Tokens of a document: parsing takes time for each, and a document of the largest size has more only if it is a
trick."""


_RULES: Final = [
    StringsAreIdentifiersRule if rule is VariablesInAllowedPositionRule else rule for rule in specified_rules
]


@dataclass(eq=False)
class Operation:
    """An operation of a document. `cost` is None if variables give the length of a list."""

    name: str | None
    node: OperationDefinitionNode
    cost: int | None
    compiled: Callable[[], Plan | None]
    came_before: bool = False
    """It was executed before. Only then is a plan compiled: many documents are sent once."""

    @cached_property
    def plan(self) -> Plan | None:
        """The plan; None if graphql-core must execute the operation."""
        return self.compiled()


class Document(NamedTuple):
    """A document that passed the gate and validation."""

    ast: DocumentNode
    operations: tuple[Operation, ...]

    def operation(self, name: str | None) -> Operation:
        """The operation to execute: the one asked for, or the only one. Raises RequestError."""
        if name is None and len(self.operations) == 1:
            return self.operations[0]
        for operation in self.operations:
            if operation.name == name:
                return operation
        several = "the document has several operations: say operationName"
        message = several if name is None else "the document has no such operation"
        raise unexecutable([request_error(message, Code.OPERATION_UNKNOWN)])


class Documents:
    """Prepares documents, and keeps the most recently used of those that passed the gate and validation."""

    def __init__(self, schema: GraphQLSchema, settings: Settings) -> None:
        self._schema = schema
        self._settings = settings
        self._pages = _fields_that_page(schema)
        self.prepare = lru_cache(maxsize=settings.graphql_documents_remembered)(self._prepare)

    def _prepare(self, text: str) -> Document:
        """Raises RequestError."""
        settings = self._settings
        if len(text.encode()) > settings.graphql_document_max_bytes:
            most = settings.graphql_document_max_bytes
            raise unexecutable([_limit(f"the document is too long: at most {most} bytes", "bytes", most)])
        try:
            ast = parse(text, max_lexical_tokens=_TOKENS_MAX)
        except GraphQLError as error:
            raise unexecutable([located(error, Code.PARSE_FAILED)], status=400) from None
        try:
            measures = gate.check(ast, settings, self._pages)
        except gate.LimitPassed as passed:
            raise unexecutable([_limit(passed.message, passed.limit, passed.most)]) from None
        errors = validate(self._schema, ast, _RULES, ERRORS_MAX, hide_suggestions=True)
        if errors:
            raise unexecutable([located(error, Code.VALIDATION_FAILED) for error in errors])
        return Document(ast, tuple(self._operations(ast, measures)))

    def cost(self, document: Document, operation: Operation, variables: dict[str, Any] | None) -> int:
        """The cost of the operation. Raises RequestError if it is above the limit."""
        if operation.cost is not None:
            return operation.cost
        try:
            return gate.cost(document.ast, operation.node, variables or {}, self._settings, self._pages)
        except gate.LimitPassed as passed:
            raise unexecutable([_limit(passed.message, passed.limit, passed.most)]) from None

    def _operations(self, ast: DocumentNode, measures: list[gate.Measure]) -> Iterator[Operation]:
        fragments = {node.name.value: node for node in ast.definitions if isinstance(node, FragmentDefinitionNode)}
        operations = [node for node in ast.definitions if isinstance(node, OperationDefinitionNode)]
        for node, measure in zip(operations, measures, strict=True):
            compiled = _no_plan if measure.directives else partial(compile_operation, self._schema, node, fragments)
            cost = None if measure.cost_varies else measure.cost
            yield Operation(node.name.value if node.name else None, node, cost, compiled)


def _no_plan() -> None:
    return None


def _fields_that_page(schema: GraphQLSchema) -> frozenset[str]:
    """The names of the fields that return a page."""
    return frozenset(
        name
        for type_ in schema.type_map.values()
        if isinstance(type_, GraphQLObjectType)
        for name, field in type_.fields.items()
        if "first" in field.args
    )


def _limit(message: str, limit: str, most: int) -> dict[str, Any]:
    return {"message": message, "extensions": {"code": Code.LIMIT_EXCEEDED, "limit": limit, "max": most}}
