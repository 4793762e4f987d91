"""Variables of built-in types where an identifier is expected.

`EmailAddress` and `PhoneNumber` are strings on the wire. A document that declares `$email: String` is clear enough, and
is accepted; `normalize` judges the value like any other.
"""

from typing import Any, Final

from graphql import (
    GraphQLError,
    OperationDefinitionNode,
    get_named_type,
    is_input_object_type,
    is_list_type,
    is_nullable_type,
    type_from_ast,
)
from graphql.validation import VariablesInAllowedPositionRule

_ALSO_ALLOWED: Final = {"EmailAddress": {"String"}, "PhoneNumber": {"String", "Int", "ID", "BigInt"}}


class StringsAreIdentifiersRule(VariablesInAllowedPositionRule):
    """The specification's rule, but for the pairs of types above."""

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
