"""GET /: leads a browser to GraphiQL, and lists the paths for any other client."""

from http import HTTPStatus
from typing import Final

from nexus_graph import __version__
from nexus_graph.api.graphql.transport import accepted
from nexus_graph.api.http.answer import Answer, Header, encode
from nexus_graph.api.http.request import Post

_TEXT: Final = b"text/plain; charset=utf-8"
_VARIES: Final[Header] = (b"vary", b"accept")
_GRAPHIQL: Final[Header] = (b"location", b"/graphql")
"""A path, so that a browser keeps its scheme and host behind any proxy."""

_CONTENTS: Final = encode(
    {
        "name": "nexus_graph",
        "version": __version__,
        "paths": {
            "/graphql": "GraphQL; subscriptions as text/event-stream or over a WebSocket; GraphiQL for browsers",
            "/identify": 'REST: POST {"email": ..., "phoneNumber": ...}',
            "/health": "which servers answer",
            "/livez": "whether this process answers",
            "/readyz": "whether it can take requests",
            "/metrics": "figures for Prometheus",
        },
    }
)


async def front(post: Post) -> Answer:
    """A redirect for a browser, else the list of paths."""
    if accepted(post.headers.get(b"accept")).page:
        return Answer(HTTPStatus.FOUND, b"GraphiQL is at /graphql\n", _TEXT, (_GRAPHIQL, _VARIES))
    return Answer(HTTPStatus.OK, _CONTENTS, headers=(_VARIES,))
