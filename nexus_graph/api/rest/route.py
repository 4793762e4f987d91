"""One route of a version, and what every route of REST has in common: it is counted, and an old path says so."""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

from nexus_graph.api.http.answer import Answer, Header, StreamingAnswer, failed
from nexus_graph.api.http.asgi import Endpoint
from nexus_graph.api.http.request import Post
from nexus_graph.door.permissions import Role
from nexus_graph.door.principal import Principal
from nexus_graph.telemetry import REST_CALLS


class RestRoute(NamedTuple):
    """A path within a version. `nexus_graph/api/guard.py` holds its right, by the same path."""

    method: Literal["GET", "POST"]
    path: str
    """Without the version: `/families/{contactId}`."""
    endpoint: Endpoint
    answer: Any = None
    """The type of the whole answer, for the OpenAPI document."""
    query: Any = None
    """The struct of the parameters behind the question mark; None where there are none."""
    body: Any = None
    """The struct of the request's body; None where there is none."""
    body_max_bytes: int | None = None
    """The largest body; None: NEXUS_BODY_MAX_BYTES."""
    is_direct: bool = False
    """Plain requests go past ASGI (`nexus_graph/api/http/direct.py`): the endpoint returns one whole answer."""


def counted(version: str, endpoint: Endpoint) -> Endpoint:
    """The endpoint; calls that the door lets in are counted by version and client."""

    def answer(post: Post) -> Awaitable[Answer]:
        _count(version, post.visit.is_open, post.visit.principal)
        return endpoint(post)

    return answer


def announcing(headers: Sequence[Header], endpoint: Endpoint) -> Endpoint:
    """The endpoint; every answer carries these headers, also a refusal."""

    async def answer(post: Post) -> Answer:
        try:
            found = await endpoint(post)
        except StreamingAnswer:
            raise
        except Exception as error:  # noqa: BLE001 - it becomes the answer that it would become further out
            found = failed(error, post.request_id.text)
        return found.with_headers(headers)

    return answer


def with_options(method: str, endpoint: Endpoint) -> tuple[Endpoint, tuple[str, ...]]:
    """The endpoint, which answers OPTIONS too, and all its methods."""
    methods = ("GET", "HEAD", "OPTIONS") if method == "GET" else ("OPTIONS", method)
    allowed = Answer(HTTPStatus.NO_CONTENT, b"", headers=((b"allow", ", ".join(methods).encode()),))

    async def answer(post: Post) -> Answer:
        return allowed if post.method == "OPTIONS" else await endpoint(post)

    return answer, methods


def _count(version: str, is_open: bool, principal: Principal) -> None:  # noqa: FBT001 - a field of a visit
    kind = "open" if is_open else principal.name.partition(":")[0]
    _counter(version, kind, principal.roles)()


@cache
def _counter(version: str, kind: str, roles: frozenset[Role]) -> Callable[[], None]:
    """What counts a call by a client of this kind and these roles: both sets are closed."""
    return REST_CALLS.labels(version, client_label(kind, roles)).inc


def client_label(kind: str, roles: frozenset[Role]) -> str:
    """The client as metrics name it: `open` where nobody is asked for credentials, `anonymous`, `key/service`,
    `user/several`.
    """
    if kind not in ("key", "user"):
        return kind
    role = "none" if not roles else "several" if len(roles) > 1 else next(iter(roles)).value
    return f"{kind}/{role}"
