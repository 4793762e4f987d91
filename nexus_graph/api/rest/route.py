"""One route of a version, and what every route of REST has in common: it is counted, and an old path says so."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

from nexus_graph.api.http.answer import Answer, Header, StreamingAnswer, failed
from nexus_graph.api.http.asgi import Endpoint
from nexus_graph.api.http.request import Post
from nexus_graph.telemetry import REST_CALLS

_calls: Counter[tuple[str, str]] = Counter()
"""Calls of this turn of the loop, by version and client."""


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
        if not _calls:
            asyncio.get_running_loop().call_soon(_count)
        _calls[version, post.visit.client] += 1
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


def _count() -> None:
    # All calls of a turn of the loop at once: one by one they cost identify two hundredths.
    calls = dict(_calls)
    _calls.clear()
    for (version, client), count in calls.items():
        REST_CALLS.labels(version, client).inc(count)
