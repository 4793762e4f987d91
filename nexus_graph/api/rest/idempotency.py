"""The header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a write that is done once, however often a
client sends it.
"""

import re
from hashlib import sha256
from typing import Final

from nexus_graph.api.http.answer import Header
from nexus_graph.api.http.request import Post
from nexus_graph.errors import InvalidArgument
from nexus_graph.identity.ordered import Key

NAME: Final = "Idempotency-Key"

REPLAYED: Final[tuple[Header, ...]] = ((b"idempotent-replayed", b"true"),)
"""Of an answer that an earlier request was given."""

_HEADER: Final = NAME.lower().encode()
_bare = re.compile(rb"[!#-\[\]-~]{1,255}").fullmatch
_quoted = re.compile(rb'"((?:[!#-\[\]-~]|\\["\\]){1,255})"').fullmatch
"""A string of RFC 9651: visible characters; a quote and a backslash stand behind a backslash."""
_escaped = re.compile(rb"\\(.)")


def key_of(post: Post, path: str) -> Key | None:
    """The key of a request of this path and its body; None if it has none. Raises InvalidArgument."""
    given = post.headers.get(_HEADER)
    if given is None:
        return None
    given = given.strip()
    if quoted := _quoted(given):
        given = _escaped.sub(rb"\1", quoted[1])
    elif not _bare(given):
        raise InvalidArgument(f"{NAME} must have 1 to 255 visible characters, bare or in quotes", field=NAME)
    return Key(post.visit.principal.name, given.decode(), sha256(b"%b\n%b" % (path.encode(), post.body)).digest())
