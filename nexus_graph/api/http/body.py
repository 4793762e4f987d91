"""Reading request bodies: bounded in bytes and depth, unpacked, strictly UTF-8, strictly JSON with each member once."""

import json
import re
import zlib
from functools import partial
from typing import Any, Final, NoReturn

import msgspec
from starlette.types import Receive, Scope

from nexus_graph.api.http.answer import JSON
from nexus_graph.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from nexus_graph.identifiers.normalize import Written
from nexus_graph.members import RepeatedMember, check_members, members

DEPTH_MAX: Final = 32
"""Levels of objects and lists in a JSON body: requests need six, and a parser needs stack for each."""

_OPENERS: Final = (b"[", b"{")
_brackets = re.compile(rb"[\[{\]}]").findall
_without_strings = partial(re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL).sub, b"")
_INTEGER_MAX_DIGITS: Final = 40
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_BOM: Final = "\ufeff"

_GZIP: Final = frozenset({b"gzip", b"x-gzip"})
_DEFLATE: Final = b"deflate"
_ENCODINGS: Final = _GZIP | {_DEFLATE}
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
"""zlib's name for gzip's format."""
_GZIP_MEMBERS_MAX: Final = 64
"""The most gzip members of one body; each costs a pass over the rest."""

_decode = msgspec.json.Decoder(dict[str, Any], float_hook=Written).decode


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def _content_headers(scope: Scope) -> tuple[bytes | None, int | None, bytes | None]:
    """Content-Type without its parameters, Content-Length, and Content-Encoding unless it changes nothing; None where
    absent.
    """
    media_type, length, encodings = None, None, []
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value if value == JSON else value.partition(b";")[0].strip().lower()
        elif name == b"content-length":
            length = int(value)  # the server has made sure that it is a number
        elif name == b"content-encoding":
            encodings += [part.strip().lower() for part in value.split(b",")]
    changing = [encoding for encoding in encodings if encoding not in (b"", b"identity")]
    return media_type, length, b",".join(changing) or None


async def read_json_body(scope: Scope, receive: Receive, *, limit_bytes: int) -> bytes:
    """The body of a request that says it is JSON, never holding more than the limit, packed or unpacked. One that does
    not say so could be of any page: a browser sends that to any site without asking first.

    Raises UnsupportedMediaType, BodyTooLarge, InvalidRequest if it cannot be unpacked, or ClientGone.
    """
    media_type, length, encoding = _content_headers(scope)
    if media_type != JSON:
        raise UnsupportedMediaType("the content type must be application/json")
    if encoding is not None and encoding not in _ENCODINGS:
        raise UnsupportedMediaType("Content-Encoding must be gzip, deflate or identity, and one of them alone")
    if length is not None and length > limit_bytes:
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            body = chunk if not chunks else b"".join((*chunks, chunk))
            return body if encoding is None or not body else _unpacked(body, encoding, limit_bytes)
        chunks.append(chunk)


def decode_object(raw: bytes, *, depth_max: int = DEPTH_MAX, what: str = "the body") -> dict[str, Any]:
    """The JSON object, each of its members named once, at every depth. Raises InvalidRequest, which names `what`.

    Values that JSON allows and msgspec cannot hold (lone surrogates, very large integers) pass, so that the check of
    their field can name the field.
    """
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        why = "UTF-16, not UTF-8" if raw.startswith(_UTF_16) else f"not valid UTF-8 (byte {error.start})"
        raise InvalidRequest(f"{what} is {why}") from None
    if raw.count(b"[") + raw.count(b"{") > depth_max and _depth(raw) > depth_max:
        raise InvalidRequest(f"{what} is nested too deeply: at most {depth_max} levels")
    try:
        found = _decode(raw)
        colons = raw.count(b":")
        if colons != len(found):  # one colon a member: the text has no member more than `found`
            check_members(raw, found, colons)
    except (msgspec.DecodeError, RecursionError):
        return _second_reading(raw, what)
    except RepeatedMember as error:
        raise InvalidRequest(f"{what} {error}") from None
    return found


def _unpacked(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    """The unpacked body. It never unpacks more than the limit."""
    try:
        if encoding in _GZIP:
            return _inflated(body, _GZIP_BITS, limit_bytes)
        try:
            return _inflated(body, zlib.MAX_WBITS, limit_bytes)
        except zlib.error:
            return _inflated(body, -zlib.MAX_WBITS, limit_bytes)  # some clients send it without zlib's frame
    except zlib.error:
        raise InvalidRequest(f"the body is not what its Content-Encoding says, {encoding.decode()}") from None


def _inflated(body: bytes, window_bits: int, limit_bytes: int) -> bytes:
    """Raises BodyTooLarge; zlib.error unless it is whole. gzip's members follow each other in one body."""
    unpacked = b""
    for _ in range(_GZIP_MEMBERS_MAX):
        inflating = zlib.decompressobj(window_bits)
        unpacked += inflating.decompress(body, limit_bytes + 1 - len(unpacked))
        if len(unpacked) > limit_bytes:
            raise _too_large(limit_bytes)
        if not inflating.eof:
            raise zlib.error
        body = inflating.unused_data
        if not body:
            return unpacked
        if window_bits != _GZIP_BITS:
            raise zlib.error
    raise zlib.error


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is too large: at most {limit_bytes} bytes")


def _second_reading(raw: bytes, what: str) -> dict[str, Any]:
    text = raw.decode().lstrip(_BOM)  # RFC 8259 allows a parser to ignore the mark
    if not text or text.isspace():
        raise InvalidRequest(f"{what} is empty")
    try:
        found: Any = members(text, parse_constant=_refuse, parse_int=_bounded_int, parse_float=Written)
    except RepeatedMember as error:
        raise InvalidRequest(f"{what} {error}") from None
    except (ValueError, RecursionError) as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidRequest(f"{what} is not valid JSON{place}") from None
    if not isinstance(found, dict):
        raise InvalidRequest(f"{what} must be a JSON object")
    return found


def _bounded_int(digits: str) -> int:
    """An integer, truncated if it is longer than any use: the check of its field finds it too large either way."""
    return int(digits[:_INTEGER_MAX_DIGITS])


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _depth(raw: bytes) -> int:
    """The depth of nested arrays and objects. Brackets within strings do not count."""
    depth = deepest = 0
    for bracket in _brackets(_without_strings(raw)):
        depth += 1 if bracket in _OPENERS else -1
        deepest = max(deepest, depth)
    return deepest
