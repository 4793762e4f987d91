"""Which media type an answer has (GraphQL over HTTP, edition September 2026; RFC 9110, section 12.5.1)."""

from functools import lru_cache
from typing import Final

from nexus_graph.api.responses import JSON

GRAPHQL_RESPONSE: Final = b"application/graphql-response+json"


@lru_cache(maxsize=64)
def media_type(accept: bytes | None) -> bytes | None:
    """The best media type for an Accept header; None if nothing that is served will do.

    The highest quality wins. A client that names neither type, but takes anything, knows JSON: it gets that.
    """
    if accept is None or not accept.strip():
        return JSON
    ranges = dict(_range(part) for part in accept.lower().split(b",") if part.strip())
    preferred = (GRAPHQL_RESPONSE, JSON) if GRAPHQL_RESPONSE in ranges else (JSON, GRAPHQL_RESPONSE)
    best = max(preferred, key=lambda served: _quality(served, ranges))
    return best if _quality(best, ranges) > 0 else None


def accepts_html(accept: bytes | None) -> bool:
    """Whether this is a browser that came to look."""
    return accept is not None and b"text/html" in accept.lower()


def _range(part: bytes) -> tuple[bytes, float]:
    name, *parameters = part.split(b";")
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.strip().partition(b"=")
        if key == b"q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return name.strip(), quality


def _quality(served: bytes, ranges: dict[bytes, float]) -> float:
    """The quality of the most specific range that covers the type."""
    for candidate in (served, b"application/*", b"*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0
