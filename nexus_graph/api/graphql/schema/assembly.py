"""The schema: declared with Strawberry, tuned once at start, executed by graphql-core.

Strawberry's execution wraps each resolver: it makes an info object and converts the arguments a second time. After the
tuning, graphql-core calls the methods directly, with arguments under their Python names and inputs as their classes. A
typical request takes a fifth less time; the declarations, and the schema that clients see, are the same.
"""

from collections.abc import Callable
from functools import cache, wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from operator import attrgetter
from typing import Any, Final, cast

import strawberry
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    Undefined,
    print_schema,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from nexus_graph.api.graphql.schema.connections import Connection, Edge
from nexus_graph.api.graphql.schema.resolvers import Mutation, Query, Subscription
from nexus_graph.api.graphql.schema.rights import require_rights
from nexus_graph.api.graphql.schema.scalars import SCALARS
from nexus_graph.api.graphql.schema.subgraph import SubgraphQuery

_DEFINITION: Final = "strawberry-definition"


@cache
def schema(*, federated: bool = False) -> GraphQLSchema:
    """The schema that is served; with `federated`, the schema of a subgraph."""
    query = SubgraphQuery if federated else Query
    declared = strawberry.Schema(
        query=query, mutation=Mutation, subscription=Subscription, config=StrawberryConfig(scalar_map=SCALARS)
    )
    served: GraphQLSchema = declared._schema  # noqa: SLF001 - the graphql-core schema, which has no public name
    for type_ in served.type_map.values():
        if _DEFINITION in type_.extensions:
            _tune(type_)
    require_rights(served)
    for root in (served.query_type, served.mutation_type):
        for field in root.fields.values() if root else ():
            field.resolve = _replayable(cast("Callable[..., Any]", field.resolve))
    return served


def sdl() -> str:
    """The schema in the schema definition language, as committed in schema/schema.graphql."""
    return print_schema(schema()) + "\n"


def _tune(type_: GraphQLNamedType) -> None:
    if isinstance(type_, GraphQLObjectType):
        type_.is_type_of = None  # mypy checks what resolvers return
        origin = type_.extensions[_DEFINITION].origin
        for field in type_.fields.values():
            _tune_field(field)
            if issubclass(origin, Connection | Edge):
                field.description = (field.description or "").format(noun=origin.noun, condition=origin.condition)
    elif isinstance(type_, GraphQLInterfaceType | GraphQLUnionType):
        type_.resolve_type = _type_name
    elif isinstance(type_, GraphQLEnumType):
        type_.coerce_output_value = attrgetter("name")  # type: ignore[method-assign,assignment]
    elif isinstance(type_, GraphQLInputObjectType):
        _tune_input(type_)


def _tune_field(field: GraphQLField) -> None:
    definition: StrawberryField = field.extensions[_DEFINITION]
    for argument in field.args.values():
        declared: StrawberryArgument = argument.extensions[_DEFINITION]
        argument.out_name = declared.python_name
        if argument.default_value is None:
            argument.default_value = Undefined  # the method has the same default; no client needs to read null
    resolver = definition.base_resolver
    if resolver is None:
        field.resolve = _method(attrgetter(definition.python_name))
        return
    method = cast("Callable[..., Any]", resolver.wrapped_func)
    if isasyncgenfunction(method):
        field.subscribe, field.resolve = method, _itself
        return
    field.resolve = _method(method) if resolver.info_parameter is None else method


def _tune_input(type_: GraphQLInputObjectType) -> None:
    definition: StrawberryObjectDefinition = type_.extensions[_DEFINITION]
    # Strawberry enforces @oneOf by itself; graphql-core then also says so in introspection and the SDL.
    type_.is_one_of = definition.is_one_of
    input_class = definition.origin
    type_.out_type = lambda values: input_class(**values)  # type: ignore[method-assign,assignment]
    for field in type_.fields.values():
        field.out_name = field.extensions[_DEFINITION].python_name


def _itself(event: object, _info: object, **_arguments: object) -> object:
    """The event is the answer."""
    return event


def _method(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method as a resolver for graphql-core. Plans call the method itself, the `__wrapped__` of the resolver."""

    @wraps(method)
    def resolve(source: object, _info: object, **arguments: object) -> object:
        return method(source, **arguments)

    async def resolve_later(source: object, _info: object, **arguments: object) -> object:
        return await method(source, **arguments)

    return resolve_later if iscoroutinefunction(method) else resolve


def _replayable(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """The resolver of a root field that returns the answer which the field gave already (engine/execution.py)."""

    def replay(answers: dict[str, Any] | None, info: Any, **arguments: object) -> object:
        if answers is not None and (name := info.path.key) in answers:
            return answers[name]
        return resolve(None, info, **arguments)

    return replay


def _type_name(value: object, _info: object, _abstract_type: object) -> str:
    return type(value).__name__
