"""What a document may ask for and what it costs, decided in one linear pass before validation.

Every fragment is measured once, in values relative to itself, and each spread adds them up: a document of fragments
that double each other is refused by arithmetic, not by walking it. Absolute depths must not be remembered: a fragment
that is first spread near the root would hide how deep its next spread lies.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    value_from_ast_untyped,
)

from nexus_graph.api.graphql.engine.refusal import RequestError, limit_passed
from nexus_graph.api.graphql.schema import PAGE_DEFAULT
from nexus_graph.config import Settings

FIELDS_MAX: Final = 500
"""Fields of a document: no view of contacts shows as many, and validation compares fields in pairs."""

ALIASES_MAX: Final = 15
"""Aliases of a document: with each a client may ask for the same field again."""

INTROSPECTION_DEPTH_MAX: Final = 20
"""Levels of fields in introspection: types of types are deeper than any question about contacts."""

FRAGMENTS_MAX: Final = 50
"""Fragments of a document: validation compares each with every other."""

ROOT_FIELDS_MAX: Final = 5
"""Fields at the root of a document: each is a read or a write of its own."""

DIRECTIVES_MAX: Final = 50
"""Directives of a document: far more than any client sends."""

_INTROSPECTION: Final = frozenset({"__schema", "__type"})
_FREE: Final = frozenset({"pageInfo"})
_DIGITS_MAX: Final = 9
_PAGE_ARGUMENT: Final = "first"
_LIST_ARGUMENTS: Final = ("ids", "representations")
WRITE_COST: Final = 10
"""What a root field of a mutation costs in addition."""


class Measure(NamedTuple):
    """The measure of a selection set with its fragments spread out; `own_fields` counts its first level only."""

    depth: int = 0
    introspection_depth: int = 0
    fields: int = 0
    own_fields: int = 0
    aliases: int = 0
    directives: int = 0
    cost: int = 0
    """Objects that the answer may hold: each costs 1, and a page its size times the objects of one item."""
    cost_varies: bool = False
    """A variable gives the length of a list; until the variable is known, the list counts as one item."""


def check(document: DocumentNode, settings: Settings, pages: Collection[str]) -> list[Measure]:
    """The measure of each operation of the document. `pages` names the fields that take `first`.

    Raises RequestError for the first limit that an operation passes, or for a cycle of fragments.
    """
    fragments = fragments_of(document)
    if len(fragments) > FRAGMENTS_MAX:
        raise _passed("fragments", FRAGMENTS_MAX)
    measuring = _Measuring(fragments, pages, settings.page_max, None)
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    try:
        measures = [measuring.operation(operation) for operation in operations]
        for name in fragments:
            measuring.fragment(name)
    except RecursionError:
        raise limit_passed(
            "the document is nested too deeply", limit="depth", most=settings.graphql_depth_max
        ) from None
    for measure in measures:
        _compare(measure, settings)
    return measures


def cost(
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variables: Mapping[str, Any],
    settings: Settings,
    pages: Collection[str],
) -> int:
    """The cost of an operation with these variables. Raises RequestError if it is above the limit."""
    defaults = {
        defined.variable.name.value: value_from_ast_untyped(defined.default_value)
        for defined in operation.variable_definitions or ()
        if defined.default_value is not None
    }
    measuring = _Measuring(fragments_of(document), pages, settings.page_max, {**defaults, **variables})
    found = measuring.operation(operation).cost
    if found > settings.graphql_cost_max:
        raise _passed("cost", settings.graphql_cost_max)
    return found


def fragments_of(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    """The document's fragments by name."""
    return {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}


def _compare(measure: Measure, settings: Settings) -> None:
    for limit, found, most in (
        ("depth", measure.depth, settings.graphql_depth_max),
        ("introspectionDepth", measure.introspection_depth, INTROSPECTION_DEPTH_MAX),
        ("fields", measure.fields, FIELDS_MAX),
        ("rootFields", measure.own_fields, ROOT_FIELDS_MAX),
        ("aliases", measure.aliases, ALIASES_MAX),
        ("directives", measure.directives, DIRECTIVES_MAX),
        ("cost", measure.cost, settings.graphql_cost_max),
    ):
        if found > most:
            raise _passed(limit, most)


def _passed(limit: str, most: int) -> RequestError:
    return limit_passed(f"the document passes the limit on {limit}: at most {most}", limit=limit, most=most)


class _Measuring:
    def __init__(
        self,
        fragments: dict[str, FragmentDefinitionNode],
        pages: Collection[str],
        page_max: int,
        variables: Mapping[str, Any] | None,
    ) -> None:
        self._fragments = fragments
        self._pages = pages
        self._page_max = page_max
        self._variables = variables
        self._measured: dict[str, Measure] = {}
        self._entered: set[str] = set()

    def operation(self, operation: OperationDefinitionNode) -> Measure:
        """The operation's measure; directives on it and its variables count."""
        measure = self._selections(operation.selection_set)
        directives = len(operation.directives or ()) + sum(
            len(variable.directives or ()) for variable in operation.variable_definitions or ()
        )
        writes = measure.own_fields if operation.operation is OperationType.MUTATION else 0
        return measure._replace(directives=measure.directives + directives, cost=measure.cost + WRITE_COST * writes)

    def fragment(self, name: str) -> Measure:
        """The fragment's measure relative to where it is spread. One that is not defined is validation's business."""
        if (measured := self._measured.get(name)) is not None:
            return measured
        definition = self._fragments.get(name)
        if definition is None:
            return Measure()
        if name in self._entered:
            raise limit_passed("the document's fragments form a cycle", limit="fragmentCycles", most=0)
        self._entered.add(name)
        measure = self._selections(definition.selection_set)
        measure = measure._replace(directives=measure.directives + len(definition.directives or ()))
        self._measured[name] = measure
        return measure

    def _selections(self, selections: SelectionSetNode | None) -> Measure:
        if selections is None:
            return Measure()
        return _together(self._selection(selection) for selection in selections.selections)

    def _selection(self, node: object) -> Measure:
        if isinstance(node, FieldNode):
            return self._field(node)
        if isinstance(node, FragmentSpreadNode):
            measure = self.fragment(node.name.value)
        elif isinstance(node, InlineFragmentNode):
            measure = self._selections(node.selection_set)
        else:
            raise TypeError(type(node).__name__)
        return measure._replace(directives=measure.directives + len(node.directives or ()))

    def _field(self, node: FieldNode) -> Measure:
        below = self._selections(node.selection_set)
        introspects = node.name.value in _INTROSPECTION
        deeper = max(below.depth, below.introspection_depth) if introspects else below.introspection_depth
        cost, varies = self._cost(node, below.cost)
        priced = node.selection_set is not None and node.name.value not in _FREE
        return Measure(
            depth=1 if introspects else 1 + below.depth,
            introspection_depth=1 + deeper if introspects or deeper else 0,
            fields=1 + below.fields,
            own_fields=1,
            aliases=below.aliases + int(node.alias is not None),
            directives=below.directives + len(node.directives or ()),
            cost=cost if priced else 0,
            cost_varies=varies or below.cost_varies,
        )

    def _cost(self, node: FieldNode, below: int) -> tuple[int, bool]:
        """The cost of the field, given the cost of its selections, and whether the cost depends on a variable.

        A page is one object that repeats the objects below it; each item of a list is an object with those below it.
        """
        arguments = {argument.name.value: argument.value for argument in node.arguments or ()}
        if node.name.value in self._pages:
            length, varies = self._length(arguments.get(_PAGE_ARGUMENT), PAGE_DEFAULT)
            return 1 + length * below, varies
        for name in _LIST_ARGUMENTS:
            if name in arguments:
                length, varies = self._length(arguments[name], 1)
                return length * (1 + below), varies
        return 1 + below, False

    def _length(self, value: ValueNode | None, default: int) -> tuple[int, bool]:
        found: object = default
        if isinstance(value, VariableNode):
            if self._variables is None:
                return 1, True
            found = self._variables.get(value.name.value)
        elif isinstance(value, ListValueNode):
            found = value.values
        elif isinstance(value, IntValueNode):
            found = min(int(value.value[:_DIGITS_MAX]), self._page_max)
        if isinstance(found, float) and found.is_integer():
            found = int(found)  # as Int coerces it
        length = len(found) if isinstance(found, list | tuple) else found if isinstance(found, int) else default
        return max(0, min(length, self._page_max)), False


def _together(measures: Iterable[Measure]) -> Measure:
    depths, introspection_depths, *counts, varies = zip(Measure(), *measures, strict=True)
    return Measure._make((max(depths), max(introspection_depths), *map(sum, counts), any(varies)))
