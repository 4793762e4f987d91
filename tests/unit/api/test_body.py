"""Reading JSON bodies: every limit, and what is let through for a field to be named."""

import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_graph.api.http.body import ClientGone, decode_object, read_json_body
from nexus_graph.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

LIMIT_BYTES = 100
AS_JSON = {b"content-type": b"application/json"}


def decoded(raw: bytes) -> dict[str, Any]:
    return decode_object(raw, depth_max=4)


async def read(chunks: Iterable[bytes], headers: dict[bytes, bytes]) -> bytes:
    """The body, as `read_json_body` gives it; the client goes away after its last chunk."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if messages:
        messages[-1]["more_body"] = False

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    scope = {"type": "http", "headers": list(headers.items())}
    return await read_json_body(scope, receive, limit_bytes=LIMIT_BYTES)


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


async def test_a_body_without_a_type_is_not_read() -> None:
    with pytest.raises(UnsupportedMediaType):
        await read([b"{}"], {})


async def test_a_declared_length_past_the_limit_is_refused_unread() -> None:
    with pytest.raises(BodyTooLarge):
        await read([], {**AS_JSON, b"content-length": b"101"})


async def test_chunks_are_counted_as_they_come() -> None:
    assert await read([b"x" * 60, b"", b"x" * 40], AS_JSON) == b"x" * 100
    with pytest.raises(BodyTooLarge):
        await read([b"x" * 60, b"x" * 41, b"never read"], AS_JSON)


async def test_a_client_that_goes_away_is_noticed() -> None:
    with pytest.raises(ClientGone):
        await read([], AS_JSON)


def test_all_members_are_found() -> None:
    assert decoded(b'{"email": "a@b.c", "name": ["x"], "phone": 1}') == {"email": "a@b.c", "name": ["x"], "phone": 1}
    assert decoded(b"{}") == {}


def test_what_only_the_field_can_judge_is_let_through() -> None:
    assert decoded(rb'{"email": "\ud800"}')["email"] == "\ud800"
    assert decoded(b'{"phoneNumber": 1' + b"0" * 5_000 + b"}")["phoneNumber"] == 10**39
    assert decoded(b'{"phoneNumber": 1e400}')["phoneNumber"] == float("inf")


@pytest.mark.parametrize(
    ("raw", "because"),
    [
        (b"", "the body is empty"),
        (b" \r\n\t", "the body is empty"),
        (b"\xef\xbb\xbf", "the body is empty"),
        ('{"email": "a@b.c"}'.encode("utf-16"), "UTF-16, not UTF-8"),
        (b"{", "not valid JSON"),
        (b'{"email": }', "not valid JSON"),
        (b"{}{}", "not valid JSON"),
        (b"nonsense", "not valid JSON"),
        (b'{"phoneNumber": NaN}', "not valid JSON"),
        (b'{"phoneNumber": -Infinity}', "not valid JSON"),
        (b'{"email": "\x00"}', "not valid JSON"),
        (b"\xef\xbb\xbf{", "not valid JSON"),
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


@pytest.mark.parametrize("marks", [1, 2])
def test_a_byte_order_mark_is_no_part_of_it(marks: int) -> None:
    assert decoded(b"\xef\xbb\xbf" * marks + b'{"email": "a@b.c"}') == {"email": "a@b.c"}


def packed(body: bytes, window_bits: int) -> bytes:
    packing = zlib.compressobj(wbits=window_bits)
    return packing.compress(body) + packing.flush()


GZIP, ZLIB, RAW = 31, 15, -15


@pytest.mark.parametrize(
    ("encoding", "window_bits"),
    [
        (b"gzip", GZIP),
        (b"GZIP", GZIP),
        (b"x-gzip", GZIP),
        (b"deflate", ZLIB),
        (b"deflate", RAW),
        (b"identity, gzip", GZIP),
    ],
)
async def test_a_packed_body_is_unpacked(encoding: bytes, window_bits: int) -> None:
    body = packed(b"x" * LIMIT_BYTES, window_bits)
    assert await read([body[:7], body[7:]], {**AS_JSON, b"content-encoding": encoding}) == b"x" * LIMIT_BYTES
    assert await read([b""], {**AS_JSON, b"content-encoding": encoding}) == b""


async def test_gzip_may_have_several_members() -> None:
    headers = {**AS_JSON, b"content-encoding": b"gzip"}
    assert await read([packed(b"{", GZIP) + packed(b"}", GZIP)], headers) == b"{}"
    with pytest.raises(BodyTooLarge):
        await read([packed(b"x" * 60, GZIP) + packed(b"x" * 60, GZIP)], headers)


@pytest.mark.parametrize(("encoding", "window_bits"), [(b"gzip", GZIP), (b"deflate", ZLIB), (b"deflate", RAW)])
@pytest.mark.parametrize("size", [LIMIT_BYTES + 1, 60_000])
async def test_no_more_than_the_limit_is_unpacked(encoding: bytes, window_bits: int, size: int) -> None:
    body = packed(b"x" * size, window_bits)
    assert len(body) <= LIMIT_BYTES
    with pytest.raises(BodyTooLarge):
        await read([body], {**AS_JSON, b"content-encoding": encoding})


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
@pytest.mark.parametrize(
    "body",
    [b"{}", packed(b"{}", GZIP)[:-1], packed(b"{}", GZIP) + b"x", packed(b"{}", ZLIB) + b"x", packed(b"{}", ZLIB)[:-5]],
    ids=ascii,
)
async def test_what_is_not_packed_as_it_says_is_refused(encoding: bytes, body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not what its Content-Encoding says"):
        await read([body], {**AS_JSON, b"content-encoding": encoding})


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"gzip, deflate", b"gzip;q=1"])
async def test_other_packings_are_not_read(encoding: bytes) -> None:
    with pytest.raises(UnsupportedMediaType, match="Content-Encoding"):
        await read([b"{}"], {**AS_JSON, b"content-encoding": encoding})


async def test_what_is_not_packed_may_say_so() -> None:
    assert await read([b"{}"], {**AS_JSON, b"content-encoding": b"identity"}) == b"{}"


def test_brackets_within_strings_are_no_depth() -> None:
    assert decoded(b'{"email": "[[[[[[\\"[[[[[["}')["email"] == '[[[[[["[[[[[['


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(decoded(raw), dict)
