"""GET /: a browser is led to GraphiQL, and any other client is told what is where."""

from http import HTTPStatus
from typing import Final

from starlette.types import Receive, Scope, Send

from nexus_graph import __version__
from nexus_graph.api.graphql.transport import accepted
from nexus_graph.api.http.answer import Header, encode, respond
from nexus_graph.api.http.request import header

_TEXT: Final = b"text/plain; charset=utf-8"
_VARIES: Final[Header] = (b"vary", b"accept")
_GRAPHIQL: Final[Header] = (b"location", b"/graphql")
"""A path, so that a browser keeps the scheme and the host that it came by, whatever stands between."""

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


class FrontRoute:
    """The endpoint."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        if accepted(header(scope, b"accept")).page:
            await respond(send, HTTPStatus.FOUND, b"GraphiQL is at /graphql\n", _TEXT, (_GRAPHIQL, _VARIES))
        else:
            await respond(send, HTTPStatus.OK, _CONTENTS, headers=(_VARIES,))
