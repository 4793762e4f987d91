"""How requests and answers travel: by HTTP (`route`), as server-sent events (`event_stream`), over WebSockets.

`negotiation` reads what a client accepts, `send_timeout` ends connections of clients that take nothing, and `page` is
GraphiQL. `places` bounds how many clients follow at once.
The door: the three endpoints, their `Places`, and `accepted`.
"""

from nexus_graph.api.graphql.transport.followers import Places
from nexus_graph.api.graphql.transport.negotiation import accepted
from nexus_graph.api.graphql.transport.page import asset
from nexus_graph.api.graphql.transport.route import GraphQLRoute
from nexus_graph.api.graphql.transport.websocket import GraphQLSockets

__all__ = ["GraphQLRoute", "GraphQLSockets", "Places", "accepted", "asset"]
