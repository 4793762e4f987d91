"""Operations compiled to plans: what graphql-core derives from the document at every request, derived once.

A plan says, for each type of the answer, which fields are read, under which names, and how each value is completed.
graphql-core executes every operation that has directives (with variables, they decide which fields are read) or
introspection. graphql-core also takes over an operation that meets an error, with the answers of its root fields: it
alone decides which fields an error nulls and how the error is formatted. tests/unit/api/test_compiled_plans.py compares
the answers of both.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from graphql import (
    FieldNode,
    GraphQLArgument,
    GraphQLField,
    GraphQLSchema,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    Undefined,
    VariableNode,
    coerce_input_value,
    get_argument_values,
    get_nullable_type,
    is_input_object_type,
    is_leaf_type,
    is_required_argument,
)
from graphql.execution.collect_fields import collect_fields
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource

from nexus_graph.api.graphql.engine.completion import NO_VARIABLES, Completion, Fragments, NotCompilable


class Run(NamedTuple):
    """What resolvers get of a request (they read `context` only), and the variables of the operation."""

    context: Any
    variables: VariableValues


class RootField(NamedTuple):
    """A field of the operation's first level. Its resolver takes arguments and may be a coroutine function."""

    name: str
    definition: GraphQLField
    node: FieldNode
    resolve: Callable[..., Any]
    complete: Callable[[Any, Run], Any]
    single_key: "_SingleKey | None"

    def arguments(self, variables: VariableValues) -> dict[str, Any]:
        """Coerced. Raises GraphQLError."""
        if self.single_key is not None:
            value = variables.coerced.get(self.single_key.variable)
            if value is not None:
                return {self.single_key.argument: self.single_key.make({self.single_key.field: value})}
        return get_argument_values(self.definition, self.node, variables, hide_suggestions=True)


class Plan(NamedTuple):
    """A compiled operation. `serial`: each root field waits for the one before."""

    variables: tuple[GraphQLVariableSignature, ...]
    fields: tuple[RootField, ...]
    serial: bool

    def coerced(self, given: Mapping[str, Any]) -> VariableValues | None:
        """The variables, if all are given and each is of its type; None if graphql-core must judge them."""
        sources: dict[str, VariableValueSource] = {}
        values: dict[str, Any] = {}
        for signature in self.variables:
            name, value = signature.name, given.get(signature.name, Undefined)
            sources[name] = VariableValueSource(signature, value)
            values[name] = Undefined if value is Undefined else coerce_input_value(value, signature.type)
            if values[name] is Undefined:
                return None
        return VariableValues(sources, values)


def compile_operation(schema: GraphQLSchema, operation: OperationDefinitionNode, fragments: Fragments) -> Plan | None:
    """The plan of a validated operation that has no directives; None if graphql-core must execute it."""
    root = schema.get_root_type(operation.operation)
    signatures = [get_variable_signature(schema, node) for node in operation.variable_definitions or ()]
    variables = tuple(one for one in signatures if isinstance(one, GraphQLVariableSignature))
    if root is None or len(variables) < len(signatures):
        return None
    completion = Completion(schema, operation, fragments)
    fields: list[RootField] = []
    selected = collect_fields(schema, fragments, NO_VARIABLES, root, operation)
    for name, details in selected.grouped_field_set.items():
        nodes = [one.node for one in details]
        definition = root.fields.get(nodes[0].name.value)
        if definition is None or definition.resolve is None:  # introspection
            return None
        try:
            complete = completion.function(definition.type, nodes)
        except NotCompilable:
            return None
        single_key = _single_key(definition, nodes[0])
        fields.append(RootField(name, definition, nodes[0], definition.resolve, complete, single_key))
    return Plan(variables, tuple(fields), serial=operation.operation is OperationType.MUTATION)


class _SingleKey(NamedTuple):
    """The frequent case: the only argument is a @oneOf input, and the value of its only field is a variable."""

    argument: str
    field: str
    make: Callable[[dict[str, Any]], Any]
    variable: str


def _single_key(definition: GraphQLField, node: FieldNode) -> _SingleKey | None:
    """How to make the arguments of the coerced variable alone; None if the document asks in another way."""
    if node.arguments is None or len(node.arguments) != 1:
        return None
    name, value = node.arguments[0].name.value, node.arguments[0].value
    if any(not _may_be_left_out(argument) for other, argument in definition.args.items() if other != name):
        return None
    argument = definition.args[name]
    type_ = get_nullable_type(argument.type)
    if not (is_input_object_type(type_) and type_.is_one_of) or not isinstance(value, ObjectValueNode):
        return None
    if len(value.fields) != 1 or not isinstance(value.fields[0].value, VariableNode):
        return None
    field = type_.fields[value.fields[0].name.value]
    if not is_leaf_type(get_nullable_type(field.type)):
        return None
    field_name = field.out_name or value.fields[0].name.value
    return _SingleKey(argument.out_name or name, field_name, type_.out_type, value.fields[0].value.name.value)


def _may_be_left_out(argument: GraphQLArgument) -> bool:
    return not is_required_argument(argument) and argument.default is None and argument.default_value is Undefined
