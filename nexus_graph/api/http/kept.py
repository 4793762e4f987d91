"""Answers that a cache may keep, and asks for again by what it has (RFC 9110, section 13; RFC 9111)."""

import re
from hashlib import blake2b
from http import HTTPStatus
from typing import Final

from nexus_graph.api.http.answer import Answer
from nexus_graph.api.http.request import Post

_ANYTHING: Final = b"*"
_tags = re.compile(rb'"[^"]*"').findall


def kept(answer: Answer, cache_control: bytes) -> Answer:
    """The answer with a cache's headers: Vary on Accept, and an ETag of every byte."""
    tag = blake2b(b"%b\n%b" % (answer.content_type, answer.body), digest_size=16).hexdigest()
    told = ((b"etag", b'"%b"' % tag.encode()), (b"cache-control", cache_control), (b"vary", b"accept"))
    return answer._replace(headers=(*answer.headers, *told))


def unless_had(answer: Answer, post: Post) -> Answer:
    """An answer that a cache may keep; 304 without a body for a client that has it."""
    tag = dict(answer.headers)[b"etag"]
    had = post.headers.get(b"if-none-match")
    if had is not None and (had.strip() == _ANYTHING or tag in _tags(had)):
        return Answer(HTTPStatus.NOT_MODIFIED, b"", headers=answer.headers)
    return answer
