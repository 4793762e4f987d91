"""What each root field asks of its caller. Fields below the root show what the reader of their object may see."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from graphql import GraphQLField, GraphQLSchema

from nexus_graph.door.audit import What
from nexus_graph.door.permissions import Permission

RIGHTS: Final[dict[str, tuple[Permission, What] | None]] = {
    "Query.contactFamily": (Permission.FAMILY_BY_IDENTIFIER, What.FAMILY_BY_IDENTIFIER),
    "Query.contact": (Permission.READ, What.CONTACT),
    "Query.node": (Permission.READ, What.NODE),
    "Query.nodes": (Permission.READ, What.NODE),
    "Query.contacts": (Permission.READ_ALL, What.LIST),
    "Query.identityEvents": (Permission.READ, What.EVENTS),
    "Query.rateLimit": None,
    "Mutation.identify": (Permission.IDENTIFY, What.IDENTIFY),
    "Subscription.identityEvents": (Permission.READ_ALL, What.SUBSCRIBE),
    "Subscription.familyChanged": (Permission.READ, What.SUBSCRIBE),
    # Of a federation's subgraph
    "Query._service": None,
    "Query._entities": (Permission.READ, What.NODE),
}
"""By type and field; None: for every caller with a valid credential. A field without a right stops the start."""


def require_rights(schema: GraphQLSchema) -> None:
    """Let every root field of the schema check its caller's rights. Raises KeyError for a field without a right."""
    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        for name, field in root.fields.items() if root else ():
            right = RIGHTS[f"{root.name}.{name}"] if root else None
            if right is not None:
                _require(field, *right)


def _require(field: GraphQLField, permission: Permission, what: What) -> None:
    if field.subscribe is not None:
        field.subscribe = _checked(field.subscribe, permission, what)
    elif field.resolve is not None:
        field.resolve = _checked(field.resolve, permission, what)


def _checked(resolve: Callable[..., Any], permission: Permission, what: What) -> Callable[..., Any]:
    @wraps(resolve)
    def checked(root: object, info: Any, /, **arguments: object) -> Any:  # an argument of a field may have any name
        info.context.visit.require(permission, what)
        return resolve(root, info, **arguments)

    return checked
