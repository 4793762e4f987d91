"""What clients see: types, arguments, lists, events, scalars, and the resolvers that call the verbs.

Nothing here knows how a document is executed or carried. To read the API, begin with `resolvers`: each query, mutation
and subscription is a method there. `assembly` makes the one schema of all declarations, which schema/schema.graphql
repeats. The door: `schema` and `sdl`, `Context`, which the engine gives to every resolver, and `PAGE_DEFAULT`.
"""

from nexus_graph.api.graphql.schema.assembly import schema, sdl
from nexus_graph.api.graphql.schema.connections import PAGE_DEFAULT
from nexus_graph.api.graphql.schema.declaration import Context

__all__ = ["PAGE_DEFAULT", "Context", "schema", "sdl"]
