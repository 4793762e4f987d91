"""Answers in fewer bytes (Content-Encoding): zstd where Python has it (3.14), and gzip.

Left as they are: short answers, which would gain nothing; event streams; refusals; and what the page of another site
asks. A page that sees the length of packed answers, and can put text of its own beside a secret, could guess the secret
letter by letter (BREACH). It would need its reader's credentials as well, and browsers send none of ours by themselves.
"""

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from http import HTTPStatus
from importlib import import_module
from typing import Any, Final

from nexus_graph.api.http.answer import Answer, Header
from nexus_graph.api.http.request import OTHER_SITES

PACKED_MIN_BYTES: Final = 2_048
"""A shorter answer fits two packets as it is."""

_AT_ONCE_MAX_BYTES: Final = 64 * 1024
"""A longer one, half a millisecond and more, is packed beside the loop."""

_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_GZIP_LEVEL: Final = 1
"""JSON in a third to a tenth of its size; the usual level takes thrice the time for a tenth less."""
_ZSTD_LEVEL: Final = 3

_HEADERS_REMEMBERED: Final = 64
_CODINGS_MAX: Final = 16
_is_coding = re.compile(rb"\s*([!#$%&'*+.^_`|~0-9a-z-]+)\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?").fullmatch

_VARIES: Final[Header] = (b"vary", b"accept-encoding")
_TEXTS: Final = (b"text/", b"application/json", b"application/graphql-response+json", b"application/openapi+json")


def _gzip(body: bytes) -> bytes:
    packing = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_BITS)
    return packing.compress(body) + packing.flush()


def _packings() -> dict[bytes, Callable[[bytes], bytes]]:
    """By name, the best first."""
    try:
        zstd: Any = import_module("compression.zstd")
    except ImportError:
        return {b"gzip": _gzip}
    return {b"zstd": lambda body: bytes(zstd.compress(body, level=_ZSTD_LEVEL)), b"gzip": _gzip}


_PACKINGS: Final = _packings()


def takes(accepted: bytes | None, coding: bytes) -> bool:
    """True if a request with this Accept-Encoding takes the coding (RFC 9110, section 12.5.3)."""
    if accepted is None:
        return False
    weights = _weights(accepted)
    return weights.get(coding, weights.get(b"*", 0.0)) > 0


async def packed(answer: Answer, headers: Mapping[bytes, bytes]) -> Answer:
    """The answer in the best coding that the request takes; as it is where none fits."""
    if answer.status != HTTPStatus.OK or not answer.content_type.startswith(_TEXTS):
        return answer
    if any(name == b"content-encoding" or (name, value) == _VARIES for name, value in answer.headers):
        return answer
    if headers.get(b"sec-fetch-site") in OTHER_SITES:
        return answer
    accepted = headers.get(b"accept-encoding")
    coding = next((each for each in _PACKINGS if takes(accepted, each)), None)
    if coding is None:
        return answer.with_headers((_VARIES,))
    pack, body = _PACKINGS[coding], answer.body
    smaller = pack(body) if len(body) <= _AT_ONCE_MAX_BYTES else await asyncio.to_thread(pack, body)
    own = [(name, b"W/" + value if name == b"etag" and value[:1] == b'"' else value) for name, value in answer.headers]
    return answer._replace(body=smaller, headers=(*own, (b"content-encoding", coding), _VARIES))


@lru_cache(maxsize=_HEADERS_REMEMBERED)
def _weights(accepted: bytes) -> dict[bytes, float]:
    """The codings that a header names, each with its weight; empty for a header that cannot be read."""
    found = {}
    for part in accepted.lower().split(b",")[:_CODINGS_MAX]:
        read = _is_coding(part)
        if read is None:
            return {}
        found[read[1]] = 1.0 if read[2] is None else float(read[2])
    return found
