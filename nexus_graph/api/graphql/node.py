"""What can be fetched again by its global id (docs/adr/0004)."""

import strawberry

from nexus_graph.api.graphql.declaring import described


@strawberry.interface(description="An object that can be fetched again by its global id.")
class Node:
    @described("The global id: opaque, and unique among all objects.")
    def id(self) -> strawberry.ID:
        raise NotImplementedError
