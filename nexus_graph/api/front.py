"""GET /: leads a browser to GraphiQL, and lists the paths for any other client."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from nexus_graph import __version__
from nexus_graph.api.graphql.transport import accepted
from nexus_graph.api.http.answer import Answer, Header, encode
from nexus_graph.api.http.asgi import Endpoint
from nexus_graph.api.http.request import Post

_TEXT: Final = b"text/plain; charset=utf-8"
_VARIES: Final[Header] = (b"vary", b"accept")
_GRAPHIQL: Final[Header] = (b"location", b"/graphql")
"""A path, so that a browser keeps its scheme and host behind any proxy."""

_PATHS: Final = {
    "/graphql": "GraphQL; subscriptions as text/event-stream or over a WebSocket; GraphiQL for browsers",
    "/health": "which servers answer",
    "/livez": "whether this process answers",
    "/readyz": "whether it can take requests",
    "/metrics": "figures for Prometheus",
}
_IDENTIFY: Final = 'REST: POST {"email": ..., "phoneNumber": ...}'


def front(identify: Sequence[str]) -> Endpoint:
    """The endpoint: a redirect for a browser, else the list of paths. `identify`: the paths of identify."""
    graphql, *others = _PATHS.items()
    paths = dict([graphql, *((path, _IDENTIFY) for path in identify), *others])
    contents = encode({"name": "nexus_graph", "version": __version__, "paths": paths})

    async def answer(post: Post) -> Answer:
        if accepted(post.headers.get(b"accept")).page:
            return Answer(HTTPStatus.FOUND, b"GraphiQL is at /graphql\n", _TEXT, (_GRAPHIQL, _VARIES))
        return Answer(HTTPStatus.OK, contents, headers=(_VARIES,))

    return answer
