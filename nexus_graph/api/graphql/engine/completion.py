"""Completion compiled: for each selection of an operation, a Python function that makes its part of an answer.

The source of the functions is generated, once a document: reading the document again for each value costs a multiple,
and closures instead of generated source cost 3 % of a request (docs/tried.md). The source for
`nodes { databaseId email }` is

    def object_3(value, run):
        if value is None: raise Incompletable
        databaseId = read_4(value)
        ...
        return {name_8: databaseId, name_9: email}

with numbers in place of the names here. No text of a client stands in the source: response names and all other values
are constants that the source reads by our own names.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Final, cast

from graphql import (
    FieldNode,
    GraphQLBoolean,
    GraphQLField,
    GraphQLID,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLString,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    ValueNode,
    VariableNode,
    get_argument_values,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.collect_fields import FieldDetails, FragmentDetails, collect_subfields
from graphql.execution.values import VariableValues
from msgspec import Raw

from nexus_graph.api.http.answer import encode

Fragments = dict[str, FragmentDetails]
NO_VARIABLES: Final = VariableValues({}, {})

_TYPENAME: Final = "__typename"
_UNLIKE: Final = {
    GraphQLString.name: "type({value}) is not str",
    GraphQLID.name: "type({value}) is not str",
    GraphQLBoolean.name: "type({value}) is not bool",
    # The encoder of answers writes a datetime in UTC as the scalar does, in a tenth of the time.
    "DateTime": "type({value}) is not datetime or {value}.tzinfo is not UTC",
}
"""Scalars whose values go into the answer as they are, unless this condition holds."""
_MEMOISED: Final = "ContactFamily"
"""The type whose fields depend on nothing but its family and their arguments. Its part of an answer is encoded once for
all callers that share the family, in one batch or by the cache, and send the same document.
"""


class Incompletable(Exception):
    """A value is not of its type. graphql-core executes the operation again and finds the message."""


class NotCompilable(Exception):
    """The selection has a field that only graphql-core executes."""


class Completion:
    """Generates the functions of one operation without directives. If one of them raises, graphql-core must execute the
    operation.
    """

    def __init__(self, schema: GraphQLSchema, operation: OperationDefinitionNode, fragments: Fragments) -> None:
        self._schema = schema
        self._operation = operation
        self._fragments = fragments
        self._text: list[str] = []
        self._names: dict[str, Any] = {
            "Incompletable": Incompletable,
            "datetime": datetime,
            "UTC": UTC,
            "encoded": _encoded,
        }
        self._varies = False
        """The object that is being compiled depends on variables."""

    def function(self, type_: GraphQLOutputType, nodes: list[FieldNode]) -> Callable[[Any, Any], Any]:
        """`complete(value, run)` for a field of this type; `nodes`: the field in the document. Raises NotCompilable."""
        name = self._function(type_, nodes)
        exec("\n".join(self._text), self._names)  # noqa: S102 - our own text, and constants
        self._text.clear()
        return cast("Callable[[Any, Any], Any]", self._names[name])

    def _function(self, type_: GraphQLOutputType, nodes: list[FieldNode]) -> str:
        if is_non_null_type(type_) and is_object_type(type_.of_type):
            return self._object(type_.of_type, nodes)
        return self._define("value", [*self._completed(type_, nodes, "value"), "return value"])

    def _completed(self, type_: GraphQLOutputType, nodes: list[FieldNode], value: str) -> Iterator[str]:
        """The statements that turn the value of the variable into its part of the answer."""
        if is_non_null_type(type_):
            yield from self._present(type_.of_type, nodes, value)
        else:
            yield f"if {value} is not None:"
            yield from _indented(self._present(type_, nodes, value))

    def _present(self, type_: GraphQLOutputType, nodes: list[FieldNode], value: str) -> Iterator[str]:
        """As `_completed`, for a value that must not be None."""
        if is_leaf_type(type_):
            yield from self._leaf(type_, value)
        elif is_list_type(type_):
            yield f"if not isinstance({value}, (list, tuple)): raise Incompletable"
            yield from self._items(type_.of_type, nodes, value)
        elif is_object_type(type_):
            yield f"{value} = {self._object(type_, nodes)}({value}, run)"
        elif is_abstract_type(type_):
            possible = self._schema.get_possible_types(type_)
            functions = ", ".join(f"{self._named('type', one.name)}: {self._object(one, nodes)}" for one in possible)
            yield f"{value} = {{{functions}}}[type({value}).__name__]({value}, run)"
        else:
            raise NotCompilable

    def _items(self, type_: GraphQLOutputType, nodes: list[FieldNode], value: str) -> Iterator[str]:
        if is_non_null_type(type_) and is_leaf_type(type_.of_type) and type_.of_type.name in _UNLIKE:
            yield f"for item in {value}:"
            yield from _indented(self._leaf(type_.of_type, "item"))
        else:
            yield f"{value} = [{self._function(type_, nodes)}(item, run) for item in {value}]"

    def _leaf(self, type_: Any, value: str) -> Iterator[str]:
        unlike = _UNLIKE.get(type_.name)
        if unlike is not None:
            yield f"if {unlike.format(value=value)}: raise Incompletable"
            return
        yield f"if {value} is None: raise Incompletable"
        yield f"{value} = {self._named('coerce', type_.coerce_output_value)}({value})"
        yield f"if {value} is None: raise Incompletable"

    def _object(self, type_: GraphQLObjectType, nodes: list[FieldNode]) -> str:
        varied, self._varies = self._varies, False
        body: list[str] = []
        answer: list[str] = []
        details = [FieldDetails(node, None) for node in nodes]
        selected = collect_subfields(self._schema, self._fragments, NO_VARIABLES, self._operation, type_, details)
        for number, (name, asked) in enumerate(selected.grouped_field_set.items()):
            field = f"field_{number}"
            body += self._field(type_, [one.node for one in asked], field)
            answer.append(f"{self._named('name', name)}: {field}")
        made = f"{{{', '.join(answer)}}}"
        if type_.name == _MEMOISED and not self._varies:
            serialise = self._define("serialised", [*body, f"return encoded({made})"])
            body = [f"return value.family.serialised_by({serialise}, value, run)"]
        else:
            body.append(f"return {made}")
        self._varies |= varied
        return self._define("object", ["if value is None: raise Incompletable", *body])

    def _field(self, type_: GraphQLObjectType, nodes: list[FieldNode], value: str) -> Iterator[str]:
        name = nodes[0].name.value
        if name == _TYPENAME:
            yield f"{value} = {self._named('type', type_.name)}"
            return
        field = type_.fields[name]
        if field.resolve is None or iscoroutinefunction(field.resolve):
            raise NotCompilable
        method = None if field.args else getattr(field.resolve, "__wrapped__", None)
        if method is not None:
            yield f"{value} = {self._named('read', method)}(value)"
        else:
            yield f"{value} = {self._named('read', self._with_arguments(field, field.resolve, nodes[0]))}(value, run)"
        yield from self._completed(field.type, nodes, value)

    def _with_arguments(
        self, field: GraphQLField, resolve: Callable[..., Any], node: FieldNode
    ) -> Callable[[Any, Any], Any]:
        """The resolver with the arguments of the document, coerced at each request only if they have variables."""
        if not field.args:
            return resolve
        if any(_has_variables([argument.value]) for argument in node.arguments or ()):
            self._varies = True
            return partial(_with_variables, resolve, field, node)
        return partial(resolve, **get_argument_values(field, node, hide_suggestions=True))

    def _define(self, kind: str, body: Iterable[str]) -> str:
        lines = list(body)  # generates the functions that the body calls, before this one
        name = self._named(kind, None)
        self._text += [f"def {name}(value, run):", *_indented(lines)]
        return name

    def _named(self, kind: str, constant: object) -> str:
        name = f"{kind}_{len(self._names)}"
        self._names[name] = constant
        return name


def _encoded(answer: dict[Any, Any]) -> Raw:
    return Raw(encode(answer))


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


def _with_variables(resolve: Callable[..., Any], field: GraphQLField, node: FieldNode, source: object, run: Any) -> Any:
    return resolve(source, run, **get_argument_values(field, node, run.variables, hide_suggestions=True))


def _has_variables(values: Sequence[ValueNode]) -> bool:
    for value in values:
        if isinstance(value, VariableNode):
            return True
        if isinstance(value, ListValueNode) and _has_variables(value.values):
            return True
        if isinstance(value, ObjectValueNode) and _has_variables([field.value for field in value.fields]):
            return True
    return False
