"""Documents compiled to plans: what graphql-core finds out anew for every request, found out once.

A plan says, for each type of the answer, which fields are read, under which names, and how each value is completed. It
holds for operations without directives, which decide by variables what is read, and without introspection: any other is
executed by graphql-core. So is an operation that meets any error, from the answers that its root fields gave: what an
error nulls, and how it is told, is decided there and only there. tests/unit/test_plans.py holds both to one answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Final, NamedTuple

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLField,
    GraphQLID,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLString,
    InlineFragmentNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    Undefined,
    ValueNode,
    VariableNode,
    get_argument_values,
    get_nullable_type,
    is_abstract_type,
    is_input_object_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
    is_required_argument,
)
from graphql.execution.values import VariableValues

Fragments = Mapping[str, FragmentDefinitionNode]
Complete = Callable[[Any, "Run"], Any]

_TYPENAME: Final = "__typename"
_AS_IT_IS: Final[Mapping[Any, type]] = {GraphQLString: str, GraphQLID: str, GraphQLBoolean: bool}
"""Leaf types whose values of this very class are their own answer."""


class Run(NamedTuple):
    """What resolvers see of a request (they ask for `context` only), and the variables of the operation."""

    context: Any
    variables: VariableValues


class RootField(NamedTuple):
    """A field of the operation itself: its resolver is called with arguments, and may be a coroutine function."""

    name: str
    definition: GraphQLField
    node: FieldNode
    resolve: Callable[..., Any]
    complete: Complete
    choice: "_Choice | None"

    def arguments(self, variables: VariableValues) -> dict[str, Any]:
        """Coerced. Raises GraphQLError."""
        if self.choice is not None:
            value = variables.coerced.get(self.choice.variable)
            if value is not None:
                return {self.choice.argument: self.choice.made({self.choice.field: value})}
        return get_argument_values(self.definition, self.node, variables, hide_suggestions=True)


class Plan(NamedTuple):
    """An operation, compiled. `serial`: each root field waits for the one before."""

    fields: tuple[RootField, ...]
    serial: bool


class Awry(Exception):
    """A value is not what its type says: graphql-core will find the words."""


class _NotPlannable(Exception):
    pass


def compile_operation(schema: GraphQLSchema, operation: OperationDefinitionNode, fragments: Fragments) -> Plan | None:
    """The plan of a validated operation that has no directives; None if graphql-core must execute it."""
    root = schema.get_root_type(operation.operation)
    if root is None:
        return None
    compiling = _Compiling(schema, fragments)
    try:
        fields = tuple(compiling.root_fields(root, operation))
    except _NotPlannable:
        return None
    return Plan(fields, serial=operation.operation is OperationType.MUTATION)


class _Compiling:
    def __init__(self, schema: GraphQLSchema, fragments: Fragments) -> None:
        self._schema = schema
        self._fragments = fragments

    def root_fields(self, root: GraphQLObjectType, operation: OperationDefinitionNode) -> Iterator[RootField]:
        for name, nodes in self._collected(root, [operation.selection_set]).items():
            definition = root.fields.get(nodes[0].name.value)
            if definition is None or definition.resolve is None:  # introspection
                raise _NotPlannable
            complete = self._completer(definition.type, nodes)
            yield RootField(name, definition, nodes[0], definition.resolve, complete, _choice(definition, nodes[0]))

    def _collected(
        self, type_: GraphQLObjectType, selections: Sequence[SelectionSetNode]
    ) -> dict[str, list[FieldNode]]:
        """The fields of an object of this type by response name, in the order of the answer."""
        found: dict[str, list[FieldNode]] = {}
        spread: set[str] = set()
        for selection in selections:
            self._collect(type_, selection, found, spread)
        return found

    def _collect(
        self,
        type_: GraphQLObjectType,
        selections: SelectionSetNode,
        found: dict[str, list[FieldNode]],
        spread: set[str],
    ) -> None:
        for node in selections.selections:
            if isinstance(node, FieldNode):
                found.setdefault((node.alias or node.name).value, []).append(node)
                continue
            if isinstance(node, FragmentSpreadNode):
                if node.name.value in spread:
                    continue
                spread.add(node.name.value)
                fragment: FragmentDefinitionNode | InlineFragmentNode = self._fragments[node.name.value]
            elif isinstance(node, InlineFragmentNode):
                fragment = node
            else:
                raise _NotPlannable
            if self._applies(fragment, type_):
                self._collect(type_, fragment.selection_set, found, spread)

    def _applies(self, fragment: FragmentDefinitionNode | InlineFragmentNode, type_: GraphQLObjectType) -> bool:
        if fragment.type_condition is None:
            return True
        condition = self._schema.get_type(fragment.type_condition.name.value)
        return condition is type_ or (is_abstract_type(condition) and self._schema.is_sub_type(condition, type_))

    def _completer(self, type_: GraphQLOutputType, nodes: list[FieldNode]) -> Complete:
        if is_non_null_type(type_):
            return self._present(type_.of_type, nodes)
        return partial(_or_none, self._present(type_, nodes))

    def _present(self, type_: GraphQLOutputType, nodes: list[FieldNode]) -> Complete:
        """How a value of the type that must not be None is completed."""
        if is_leaf_type(type_):
            kept = _AS_IT_IS.get(type_)
            return partial(_leaf, type_.coerce_output_value) if kept is None else partial(_as_it_is, kept)
        if is_list_type(type_):
            return partial(_list, self._completer(type_.of_type, nodes))
        selections = [node.selection_set for node in nodes if node.selection_set is not None]
        if is_object_type(type_):
            return partial(_object, tuple(self._steps(type_, selections)))
        if is_abstract_type(type_):
            by_type = {
                possible.name: tuple(self._steps(possible, selections))
                for possible in self._schema.get_possible_types(type_)
            }
            return partial(_abstract, by_type)
        raise _NotPlannable

    def _steps(self, type_: GraphQLObjectType, selections: Sequence[SelectionSetNode]) -> Iterator["_Step"]:
        for name, nodes in self._collected(type_, selections).items():
            field_name = nodes[0].name.value
            if field_name == _TYPENAME:
                yield _Step(name, partial(_constant, type_.name), None)
                continue
            definition = type_.fields[field_name]
            if definition.resolve is None or iscoroutinefunction(definition.resolve):
                raise _NotPlannable
            yield _Step(name, _resolver(definition, nodes[0]), self._completer(definition.type, nodes))


class _Step(NamedTuple):
    """One field of an object: read it, then complete it, if there is anything to complete."""

    name: str
    resolve: Callable[[Any, Run], Any]
    complete: Complete | None


class _Choice(NamedTuple):
    """The frequent way to ask: the one argument given is a @oneOf input, and a variable the one field of it."""

    argument: str
    field: str
    made: Callable[[dict[str, Any]], Any]
    variable: str


def _choice(definition: GraphQLField, node: FieldNode) -> _Choice | None:
    """What needs no more than the variable's value, coerced as it is, if the field is asked for in that way."""
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
    return _Choice(argument.out_name or name, field_name, type_.out_type, value.fields[0].value.name.value)


def _may_be_left_out(argument: GraphQLArgument) -> bool:
    return not is_required_argument(argument) and argument.default is None and argument.default_value is Undefined


def _resolver(definition: GraphQLField, node: FieldNode) -> Callable[[Any, Run], Any]:
    resolve = definition.resolve
    if resolve is None:
        raise _NotPlannable
    if not definition.args:
        return resolve
    if any(_has_variables(argument.value) for argument in node.arguments or ()):
        return partial(_with_variables, resolve, definition, node)
    return partial(resolve, **get_argument_values(definition, node, hide_suggestions=True))


def _with_variables(
    resolve: Callable[..., Any], definition: GraphQLField, node: FieldNode, source: object, run: Run
) -> object:
    return resolve(source, run, **get_argument_values(definition, node, run.variables, hide_suggestions=True))


def _constant(value: str, _source: object, _run: Run) -> str:
    return value


def _object(steps: tuple[_Step, ...], value: Any, run: Run) -> dict[str, Any]:
    if value is None:
        raise Awry
    done: dict[str, Any] = {}
    for name, resolve, complete in steps:
        found = resolve(value, run)
        done[name] = found if complete is None else complete(found, run)
    return done


def _abstract(steps: Mapping[str, tuple[_Step, ...]], value: Any, run: Run) -> dict[str, Any]:
    return _object(steps[type(value).__name__], value, run)


def _list(complete: Complete, value: Any, run: Run) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise Awry
    return [complete(item, run) for item in value]


def _leaf(coerce: Callable[[Any], Any], value: Any, _run: Run) -> Any:
    if value is None or (answer := coerce(value)) is None:
        raise Awry
    return answer


def _as_it_is(kept: type, value: Any, _run: Run) -> Any:
    if type(value) is not kept:
        raise Awry
    return value


def _or_none(complete: Complete, value: Any, run: Run) -> Any:
    return None if value is None else complete(value, run)


def _has_variables(value: ValueNode) -> bool:
    if isinstance(value, ListValueNode):
        return any(map(_has_variables, value.values))
    if isinstance(value, ObjectValueNode):
        return any(_has_variables(field.value) for field in value.fields)
    return isinstance(value, VariableNode)
