"""Reading JSON bodies: every limit, and what is let through for a field to be named."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_graph.api.body import ClientGone, decode_object, read_json_body
from nexus_graph.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

LIMIT_BYTES = 100


class Shape(msgspec.Struct):
    email: Any = None
    phoneNumber: Any = None  # noqa: N815


DECODE = msgspec.json.Decoder(Shape).decode


def decoded(raw: bytes) -> Shape:
    return decode_object(raw, DECODE, Shape, depth_max=4)


async def read(chunks: Iterable[bytes], headers: dict[bytes, bytes], *, type_required: bool = True) -> bytes:
    """The body, as `read_json_body` gives it; the client goes away after its last chunk."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if messages:
        messages[-1]["more_body"] = False

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    scope = {"type": "http", "headers": list(headers.items())}
    return await read_json_body(scope, receive, limit_bytes=LIMIT_BYTES, type_required=type_required)


@pytest.mark.parametrize(
    "media_type",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/json;charset=UTF-8;version=2",
        b"Application/JSON ; charset=latin1",
    ],
)
async def test_json_with_any_parameters_is_read(media_type: bytes) -> None:
    assert await read([b"{}"], {b"content-type": media_type}) == b"{}"


@pytest.mark.parametrize(
    "media_type",
    [b"text/plain", b"", b"application/x-www-form-urlencoded", b"multipart/form-data", b"application/jsonp", b"json"],
)
async def test_other_types_are_not_read(media_type: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        await read([b"{}"], {b"content-type": media_type})


async def test_a_missing_type_is_read_only_where_it_may_be() -> None:
    assert await read([b"{}"], {}, type_required=False) == b"{}"
    with pytest.raises(UnsupportedMediaType):
        await read([b"{}"], {}, type_required=True)


async def test_a_declared_length_past_the_limit_is_refused_unread() -> None:
    with pytest.raises(BodyTooLarge):
        await read([], {b"content-length": b"101"}, type_required=False)


async def test_chunks_are_counted_as_they_come() -> None:
    assert await read([b"x" * 60, b"", b"x" * 40], {}, type_required=False) == b"x" * 100
    with pytest.raises(BodyTooLarge):
        await read([b"x" * 60, b"x" * 41, b"never read"], {}, type_required=False)


async def test_a_client_that_goes_away_is_noticed() -> None:
    with pytest.raises(ClientGone):
        await read([], {}, type_required=False)


def test_members_of_no_interest_are_ignored() -> None:
    assert decoded(b'{"email": "a@b.c", "name": ["x"], "phone": 1}') == Shape("a@b.c", None)
    assert decoded(b"{}") == Shape()


def test_what_only_the_field_can_judge_is_let_through() -> None:
    assert decoded(rb'{"email": "\ud800"}').email == "\ud800"
    assert decoded(b'{"phoneNumber": 1' + b"0" * 5_000 + b"}").phoneNumber == 10**39
    assert decoded(b'{"phoneNumber": 1e400}').phoneNumber == float("inf")


@pytest.mark.parametrize(
    ("raw", "because"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"email": }', "not valid JSON"),
        (b"{}{}", "not valid JSON"),
        (b"nonsense", "not valid JSON"),
        (b'{"phoneNumber": NaN}', "not valid JSON"),
        (b'{"phoneNumber": -Infinity}', "not valid JSON"),
        (b'{"email": "\x00"}', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"email"', "must be a JSON object"),
        (b"5", "must be a JSON object"),
        (b'{"email": "\xff"}', "not valid UTF-8"),
        (b'{"ignored": "\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"email": [[[[]]]]}', "nested too deeply"),
        (b'{"ignored": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "nested too deeply"),
        (b"[" * 60_000, "nested too deeply"),
    ],
    ids=lambda value: ascii(value)[:32],
)
def test_bad_bodies_are_refused(raw: bytes, because: str) -> None:
    with pytest.raises(InvalidRequest, match=because):
        decoded(raw)


def test_brackets_within_strings_are_no_depth() -> None:
    assert decoded(b'{"email": "[[[[[[\\"[[[[[["}').email == '[[[[[["[[[[[['


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(decoded(raw), Shape)
