"""A whole request, and its id."""

import random
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

from asyncpg.pgproto import pgproto

from nexus_graph.door.visit import OPEN, Visit
from nexus_graph.errors import NexusError
from nexus_graph.telemetry import TRACE_ID

OTHER_SITES: Final = (b"cross-site", b"same-site")
"""Sec-Fetch-Site of a page of another site."""

_is_uuid = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}").fullmatch
_is_ulid = re.compile(rb"[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}").fullmatch
_OF_ULIDS: Final = bytes.maketrans(b"ABCDEFGHJKMNPQRSTVWXYZ", b"abcdefghijklmnopqrstuv")
"""From the letters of a ULID to those of Python's numbers of base 32."""
# Of a UUID: version 4, variant 1 (RFC 9562).
_UUID_FREE: Final = ~(0xF000 << 64 | 0xC000 << 48)
_UUID_SET: Final = 0x4000 << 64 | 0x8000 << 48


class RequestId:
    """The id of one request: `text` for headers and logs, `uuid`, the same 128 bits, for the record and the audit."""

    __slots__ = ("text", "uuid")

    def __init__(self, given: bytes | None) -> None:
        """`given` is the caller's X-Request-ID. A UUID, a ULID or 32 hexadecimal digits are taken. Anything else is
        replaced: it could be an email, a phone or a key, and the id stands in logs.
        """
        if given is not None:
            if _is_uuid(given):
                self.text = given.decode()
                self.uuid = UUID(self.text)
                return
            if _is_ulid(given):
                self.text = given.decode()
                self.uuid = UUID(int=int(given.upper().translate(_OF_ULIDS), 32))
                return
        # The id only distinguishes requests, so the cheap generator will do. asyncpg's UUID is a standard UUID that is
        # made, written and sent in a fifth of the time.
        self.uuid = pgproto.UUID((random.getrandbits(128) & _UUID_FREE | _UUID_SET).to_bytes(16, "big"))
        self.text = str(self.uuid)


_is_trace = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch


def trace_of(given: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
    """The header of the answer for the caller's traceparent (W3C Trace Context, version 00): itself, and its trace is
    noted for the log. Any other value is ignored.
    """
    if given is None or (found := _is_trace(given)) is None:
        return ()
    TRACE_ID.set(found[1].decode())
    return ((b"traceparent", given),)


class Post(NamedTuple):
    """A whole request."""

    body: bytes
    """Empty unless the method is POST."""
    headers: Mapping[bytes, bytes]
    """By name in lower case."""
    request_id: RequestId
    state: Mapping[str, Any]
    """The resources that the application's lifespan opened."""
    fault: NexusError | None = None
    """Why the body could not be read. An endpoint that takes a body raises this error."""
    method: str = "POST"
    query: bytes = b""
    """The URL after its question mark."""
    parameters: Mapping[str, str] = MappingProxyType({})
    """Parts of the path, by the route's names."""
    peer: str = ""
    """The address of the client, or of the proxy before it; empty where the connection has none."""
    visit: Visit = OPEN
    """Who calls, and what this caller may do."""

    def by(self, visit: Visit) -> "Post":
        """The request as this visit's."""
        return Post(*self[:-1], visit)
