"""What a client accepts (RFC 9110, section 12.5.1), and the answer it gets (GraphQL over HTTP, September 2026)."""

import re
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Final, NamedTuple

from nexus_graph.api.http.answer import EVENT_STREAM, JSON

GRAPHQL_RESPONSE: Final = b"application/graphql-response+json"
_HTML: Final = b"text/html"
_ACCEPTED_REMEMBERED: Final = 64
"""Accept headers that a process keeps in parsed form: a client sends the same one with each request."""

_without_quoted = partial(re.compile(rb'"(?:[^"\\]|\\.)*"?').sub, b"")
_quality_of = re.compile(rb";\s*q\s*=\s*([^;\s]*)").search
_is_quality = re.compile(rb"0(?:\.[0-9]*)?|1(?:\.0*)?").fullmatch


class Accepted(NamedTuple):
    """How the client of an Accept header can be answered."""

    media_type: bytes | None
    """The media type of an answer in JSON; None if the client accepts no JSON."""
    stream: bool
    """The client accepts a stream of answers: the header names text/event-stream."""
    stream_only: bool
    """The client wants the one answer to a query as a stream too: it accepts no JSON, or with less quality."""
    page: bool
    """The client is a browser that opens the page."""


@lru_cache(maxsize=_ACCEPTED_REMEMBERED)
def accepted(accept: bytes | None) -> Accepted:
    """The header, parsed. The highest quality wins.

    A client that names neither JSON type but accepts `*/*` gets application/json. A stream or a page must be named: a
    client that accepts `*/*`, or sends no header, gets JSON.
    """
    if accept is None or not accept.strip():
        return Accepted(JSON, stream=False, stream_only=False, page=False)
    ranges = _ranges(accept.lower())
    preferred = (GRAPHQL_RESPONSE, JSON) if GRAPHQL_RESPONSE in ranges else (JSON, GRAPHQL_RESPONSE)
    best = max(preferred, key=lambda served: _quality(served, ranges, b"application/*", b"*/*"))
    json_quality = _quality(best, ranges, b"application/*", b"*/*")
    stream_quality = _quality(EVENT_STREAM, ranges, b"text/*")
    return Accepted(
        best if json_quality > 0 else None,
        stream=stream_quality > 0,
        stream_only=stream_quality > json_quality,
        page=0 < _quality(_HTML, ranges) >= json_quality,
    )


def _ranges(accept: bytes) -> dict[bytes, float]:
    """The media ranges without their parameters, and the quality of each."""
    found: dict[bytes, float] = {}
    for part in _without_quoted(accept).split(b","):
        name, quality = part.partition(b";")[0].strip(), _quality_of(part)
        value = 1.0 if quality is None else float(quality[1]) if _is_quality(quality[1]) else 0.0
        found[name] = max(value, found.get(name, 0.0))
    return found


def _quality(served: bytes, ranges: Mapping[bytes, float], *wildcards: bytes) -> float:
    """The quality of the most specific range that covers the type."""
    return next((ranges[name] for name in (served, *wildcards) if name in ranges), 0.0)
