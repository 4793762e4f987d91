"""What a request of REST asks for: members of the body and of the URL, each known and named once."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from nexus_graph.api.graphql.schema import PAGE_DEFAULT
from nexus_graph.api.http.body import decode_object
from nexus_graph.api.http.request import Post
from nexus_graph.api.rest.shapes import SEQUENCE_MAX
from nexus_graph.config import Settings
from nexus_graph.errors import InvalidArgument, InvalidRequest, PageTooLarge

QUERY_MAX_BYTES: Final = 8 * 1024
"""A URL's query: no identifier is longer than 1,024 characters, and each may take nine bytes, escaped."""

_has_bare_plus = re.compile(rb"=\+[0-9]").search
"""The beginning of a phone number that a client did not escape."""


def body_of(post: Post, shape: type[msgspec.Struct]) -> dict[str, Any]:
    """The body, a JSON object that has members of the shape only. Their values are not checked. Raises NexusError."""
    if post.fault is not None:
        raise post.fault
    given = decode_object(post.body)
    require_known(given, shape, "the body")
    return given


def require_known(given: Mapping[str, object], shape: type[msgspec.Struct], what: str) -> None:
    """Raises InvalidRequest if `given` has a member that the shape has not. A name may be any text: no message shows
    it.
    """
    known = shape.__struct_encode_fields__
    if unknown := sum(name not in known for name in given):
        members = "a member" if unknown == 1 else f"{unknown} members"
        raise InvalidRequest(f"{what} has {members} that v2 does not know; it knows {', '.join(known)}")


def query_of(
    post: Post, shape: type[msgspec.Struct], *, max_bytes: int = QUERY_MAX_BYTES, has_phones: bool = True
) -> dict[str, str]:
    """The URL's parameters, as text: those of the shape that were given. With `has_phones` a + before a digit is
    refused. Raises InvalidRequest.
    """
    if not post.query:
        return {}
    if len(post.query) > max_bytes:
        raise InvalidRequest(f"the URL's query is too long: at most {max_bytes} bytes")
    if has_phones and _has_bare_plus(post.query):
        raise InvalidRequest("the URL holds a + before a digit, which means a blank there: write %2B for a +")
    try:
        pairs = parse_qsl(post.query.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise InvalidRequest("the URL's query is not valid UTF-8") from None
    found, known = dict(pairs), shape.__struct_encode_fields__
    if not found.keys() <= set(known):
        knows = ", ".join(known) or "none"
        raise InvalidRequest(f"the URL has a parameter that this path does not know; it knows {knows}")
    if len(found) != len(pairs):
        raise InvalidRequest("the URL names a parameter twice")
    return found


def number_of(text: str, most: int) -> int | None:
    """The whole number from 0 to `most` that the text is, in no more digits than `most` has; None if it is none."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)):
        return None
    number = int(text)
    return None if number > most else number


def whole_number(text: str | None, field: str, *, most: int = SEQUENCE_MAX) -> int | None:
    """A whole number from 0 to `most`; None if there is no text. Raises InvalidArgument."""
    if text is None:
        return None
    number = number_of(text, most)
    if number is None:
        raise InvalidArgument(f"{field} must be a whole number from 0 to {most}", field=field)
    return number


def page_size(text: str | None, settings: Settings, *, most: int = SEQUENCE_MAX) -> int:
    """Items of a page, NEXUS_PAGE_MAX at most. Raises InvalidArgument, also for a number past `most`; PageTooLarge."""
    limit = min(PAGE_DEFAULT, settings.page_max) if text is None else whole_number(text, "limit", most=most)
    if not limit:
        raise InvalidArgument("limit must be at least 1", field="limit")
    if limit > settings.page_max:
        raise PageTooLarge(f"limit must be at most {settings.page_max}", field="limit")
    return limit
