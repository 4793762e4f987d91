"""From the text of a document to operations that can be executed: parsed, measured, validated, and kept by the text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, Final, NamedTuple

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    get_named_type,
    is_input_object_type,
    is_list_type,
    is_nullable_type,
    parse,
    specified_rules,
    type_from_ast,
    validate,
)
from graphql.execution.collect_fields import FragmentDetails
from graphql.validation import VariablesInAllowedPositionRule

from nexus_graph.api.graphql.engine import gate
from nexus_graph.api.graphql.engine.plans import Plan, compile_operation
from nexus_graph.api.graphql.engine.refusal import limit_passed, refused, refused_by_core
from nexus_graph.config import Settings
from nexus_graph.errors import Code

REMEMBERED_MAX: Final = 256
"""Documents that a process keeps, parsed or as texts: several times as many as an application has."""

ERRORS_MAX: Final = 10
"""Errors that a response lists: a client that mends those can ask again."""

_TOKENS_MAX: Final = 1_000
"""Tokens of a document: parsing takes time for each, and a document of the largest size has more only if it is a
trick."""

FREE_COST: Final = 100
"""The cost that is free for each root field of an operation, where rate limits count: a family with a page or two."""

_ALSO_ALLOWED: Final = {"EmailAddress": {"String"}, "PhoneNumber": {"String", "Int", "ID", "BigInt"}}
"""Types of variables, by the type that is expected."""


class StringsAreIdentifiersRule(VariablesInAllowedPositionRule):
    """The specification's rule, but variables of built-in types are accepted where an identifier is expected.

    `EmailAddress` and `PhoneNumber` are strings on the wire. A document that declares `$email: String` is clear enough;
    `normalize` judges the value like any other.
    """

    _accepted: frozenset[int] = frozenset()

    def leave_operation_definition(self, operation: OperationDefinitionNode, *args: Any) -> None:
        """Find the usages to accept, then check all."""
        self._accepted = frozenset(
            id(usage.node) for usage in self.context.get_recursive_variable_usages(operation) if self._is_allowed(usage)
        )
        super().leave_operation_definition(operation, *args)

    def report_error(self, error: GraphQLError) -> None:
        """Report usages that are not accepted."""
        if not (error.nodes and id(error.nodes[-1]) in self._accepted):
            super().report_error(error)

    def _is_allowed(self, usage: Any) -> bool:
        declared = self.var_def_map.get(usage.node.name.value)
        wanted = usage.type
        if declared is None or wanted is None or is_list_type(wanted):
            return False
        given = type_from_ast(self.context.schema, declared.type)
        if given is None or is_list_type(given):
            return False
        parent = get_named_type(usage.parent_type)
        if is_nullable_type(given) and is_input_object_type(parent) and parent.is_one_of:
            return False
        return get_named_type(given).name in _ALSO_ALLOWED.get(get_named_type(wanted).name, ())


_RULES: Final = [
    StringsAreIdentifiersRule if rule is VariablesInAllowedPositionRule else rule for rule in specified_rules
]


@dataclass(eq=False)
class Operation:
    """An operation of a document. `cost` is None if variables give the length of a list."""

    name: str | None
    node: OperationDefinitionNode
    cost: int | None
    compiled: Callable[[], Plan | None] | None
    """None if it has directives: those are graphql-core's."""
    root_fields: int
    came_before: bool = False
    """It was executed before. Only then is a plan compiled: many documents are sent once."""

    @cached_property
    def plan(self) -> Plan | None:
        """The plan; None if graphql-core must execute the operation."""
        return self.compiled() if self.compiled else None


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
        raise refused(Code.OPERATION_UNKNOWN, several if name is None else "the document has no such operation")


class PreparedOperation(NamedTuple):
    """An operation that may be executed, with the client's variables."""

    document: Document
    operation: Operation
    variables: dict[str, Any] | None
    cost: int

    @property
    def kind(self) -> OperationType:
        return self.operation.node.operation

    @property
    def price(self) -> int:
        """What the operation counts against a rate limit: one for each root field, and one for each FREE_COST of its
        cost past FREE_COST a root field.
        """
        root_fields = max(1, self.operation.root_fields)
        return root_fields + max(0, self.cost - 1 - root_fields * FREE_COST) // FREE_COST


class Documents:
    """Prepares documents, and keeps the most recently used of those that passed the gate and validation."""

    def __init__(self, schema: GraphQLSchema, settings: Settings) -> None:
        self._schema = schema
        self._settings = settings
        self._pages = _fields_that_page(schema)
        self.prepare = lru_cache(maxsize=REMEMBERED_MAX)(self._prepare)

    def _prepare(self, text: str) -> Document:
        """Raises RequestError."""
        settings = self._settings
        if len(text.encode()) > settings.graphql_document_max_bytes:
            most = settings.graphql_document_max_bytes
            raise limit_passed(f"the document is too long: at most {most} bytes", limit="bytes", most=most)
        try:
            ast = parse(text, max_lexical_tokens=_TOKENS_MAX)
        except GraphQLError as error:
            raise refused_by_core(Code.PARSE_FAILED, [error]) from None
        measures = gate.check(ast, settings, self._pages)
        errors = validate(self._schema, ast, _RULES, ERRORS_MAX, hide_suggestions=True)
        if errors:
            raise refused_by_core(Code.VALIDATION_FAILED, errors)
        return Document(ast, tuple(self._operations(ast, measures)))

    def prepare_operation(self, text: str, name: str | None, variables: dict[str, Any] | None) -> PreparedOperation:
        """The operation of this name in the document. Raises RequestError, also if it costs more than the limit."""
        document = self.prepare(text)
        operation = document.operation(name)
        cost = operation.cost
        if cost is None:
            cost = gate.cost(document.ast, operation.node, variables or {}, self._settings, self._pages)
        return PreparedOperation(document, operation, variables, cost)

    def _operations(self, ast: DocumentNode, measures: list[gate.Measure]) -> Iterator[Operation]:
        fragments = {name: FragmentDetails(node) for name, node in gate.fragments_of(ast).items()}
        operations = [node for node in ast.definitions if isinstance(node, OperationDefinitionNode)]
        for node, measure in zip(operations, measures, strict=True):
            compiled = None if measure.directives else partial(compile_operation, self._schema, node, fragments)
            cost = None if measure.cost_varies else measure.cost
            name = node.name.value if node.name else None
            yield Operation(name, node, cost, compiled, measure.own_fields)


def _fields_that_page(schema: GraphQLSchema) -> frozenset[str]:
    """The names of the fields that return a page."""
    return frozenset(
        name
        for type_ in schema.type_map.values()
        if isinstance(type_, GraphQLObjectType)
        for name, field in type_.fields.items()
        if "first" in field.args
    )
