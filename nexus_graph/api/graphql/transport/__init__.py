"""How requests and answers travel: by HTTP (`route`), as server-sent events (`event_stream`), over WebSockets.

`negotiation` reads what a client accepts, and `page` is GraphiQL.
The door: the three endpoints, and `accepted`.
"""

from nexus_graph.api.graphql.transport.negotiation import accepted
from nexus_graph.api.graphql.transport.page import asset
from nexus_graph.api.graphql.transport.route import GraphQLRoute
from nexus_graph.api.graphql.transport.websocket import GraphQLSockets

__all__ = ["GraphQLRoute", "GraphQLSockets", "accepted", "asset"]
