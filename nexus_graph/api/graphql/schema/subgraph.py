"""The API as a subgraph of an Apollo federation, if NEXUS_GRAPHQL_FEDERATION is set.

Other subgraphs may refer to contacts and families by their global ids; a router asks `_entities` for the rest.
"""

import re
from functools import cache
from typing import Annotated, Any, Final, cast

import strawberry

from nexus_graph.api import cursors
from nexus_graph.api.graphql.schema.declaration import ContextInfo, described
from nexus_graph.api.graphql.schema.resolvers import Query, objects_of
from nexus_graph.api.graphql.schema.scalars import Representation
from nexus_graph.api.graphql.schema.types import Contact, ContactFamily
from nexus_graph.errors import InvalidArgument, PageTooLarge
from nexus_graph.statements import GRAPHQL_SCHEMA

_FIELD: Final = "representations"
# 2.9 is the newest edition that both of the usual composers understand.
_LINK: Final = """
extend schema @link(url: "https://specs.apollo.dev/federation/v2.9", import: ["@key"])

# Composers do not know it yet. A supergraph leaves it out; this subgraph still insists on it.
directive @oneOf on INPUT_OBJECT
"""

Entity = Annotated[Contact | ContactFamily, strawberry.union("_Entity", description="What has a key.")]
Representations = Annotated[
    list[Representation], strawberry.argument(description="Keys of objects. At most a page of them.")
]


@strawberry.type(name="_Service", description="What this subgraph brings to the federation.")
class Service:
    sdl: str = strawberry.field(description="Its schema, with the keys of its entities.")


@strawberry.type(name="Query", description="Reading.")
class SubgraphQuery(Query):
    @described("What a composer reads.", name="_service")
    def service(self) -> Service:
        return Service(sdl=sdl())

    @described("The objects that have these keys; null where there is none.", name="_entities")
    async def entities(self, info: ContextInfo, representations: Representations) -> list[Entity | None]:
        if len(representations) > info.context.settings.page_max:
            raise PageTooLarge(f"{_FIELD} must be at most {info.context.settings.page_max}", field=_FIELD)
        wanted = [_wanted(representation) for representation in representations]
        return cast("list[Entity | None]", await objects_of(info.context, wanted))


@cache
def sdl() -> str:
    """The schema for composers: the API's, with the keys of its entities."""
    keyed = r'type \1 implements Node @key(fields: "id") {'
    entities = rf"^type ({cursors.CONTACT}|{cursors.FAMILY}) implements Node {{$"
    return re.sub(entities, keyed, GRAPHQL_SCHEMA.read_text(encoding="utf-8"), flags=re.MULTILINE) + _LINK


def _wanted(representation: Any) -> cursors.GlobalId:
    """The object that a router asks for. Raises InvalidArgument."""
    if isinstance(representation, dict):
        type_name, text = representation.get("__typename"), representation.get("id")
        if isinstance(text, str):
            wanted = cursors.decode_id(text, field=_FIELD)
            if wanted.type_name == type_name != cursors.EVENT:
                return wanted
    raise InvalidArgument(f"{_FIELD} must name {cursors.CONTACT} or {cursors.FAMILY} by its id", field=_FIELD)
