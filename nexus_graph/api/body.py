"""Reading request bodies: bounded in bytes and depth, strictly UTF-8, strictly JSON."""

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import msgspec
from starlette.types import Receive, Scope

from nexus_graph.api.responses import JSON
from nexus_graph.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from nexus_graph.identity.normalize import Written

Shape = TypeVar("Shape", bound=msgspec.Struct)

_QUOTE, _BACKSLASH = b'"'[0], b"\\"[0]
_OPENERS, _CLOSERS = b"[{", b"]}"
_INTEGER_MAX_DIGITS: Final = 40


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class ContentHeaders(NamedTuple):
    """The two headers that decide whether a body is read at all; None where absent."""

    media_type: bytes | None
    length: int | None


def content_headers(scope: Scope) -> ContentHeaders:
    """Content-Type without its parameters, and Content-Length."""
    media_type, length = None, None
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value if value == JSON else value.partition(b";")[0].strip().lower()
        elif name == b"content-length":
            length = int(value)  # the server has made sure that it is a number
    return ContentHeaders(media_type, length)


async def read_json_body(scope: Scope, receive: Receive, *, limit_bytes: int, type_required: bool) -> bytes:
    """The body of a request that says it is JSON, never holding more than the limit.

    Raises UnsupportedMediaType, BodyTooLarge, or ClientGone.
    """
    media_type, length = content_headers(scope)
    if media_type != JSON and (type_required or media_type is not None):
        raise UnsupportedMediaType("the content type must be application/json")
    if length is not None and length > limit_bytes:
        raise BodyTooLarge(f"the body is too large: at most {limit_bytes} bytes")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLarge(f"the body is too large: at most {limit_bytes} bytes")
        if not message.get("more_body", False):
            return chunk if not chunks else b"".join((*chunks, chunk))
        chunks.append(chunk)


def decode_object(raw: bytes, decode: Callable[[bytes], Shape], shape: type[Shape], *, depth_max: int) -> Shape:
    """The JSON object as a `shape`, a msgspec Struct whose members are all optional and untyped. Raises InvalidRequest.

    What msgspec cannot hold but JSON can (lone surrogates, very large integers) is let through, so that the field it
    stands in can be named by whoever judges that field.
    """
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not valid UTF-8 (byte {error.start})") from None
    if raw.count(b"[") + raw.count(b"{") > depth_max and _depth(raw) > depth_max:
        raise InvalidRequest(f"the body is nested too deeply: at most {depth_max} levels")
    try:
        return decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return _second_reading(raw, shape)


def _second_reading(raw: bytes, shape: type[Shape]) -> Shape:
    try:
        found: Any = json.loads(raw.decode(), parse_constant=_refuse, parse_int=_bounded_int, parse_float=Written)
    except (ValueError, RecursionError) as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidRequest(f"the body is not valid JSON{place}") from None
    if not isinstance(found, dict):
        raise InvalidRequest("the body must be a JSON object")
    names = [field.name for field in msgspec.structs.fields(shape)]
    return shape(**{name: found[name] for name in names if name in found})


def _bounded_int(digits: str) -> int:
    """An integer, cut short where it is past any use: whoever judges the field finds it too large either way."""
    return int(digits[:_INTEGER_MAX_DIGITS])


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _depth(raw: bytes) -> int:
    """How deep the arrays and objects are nested. One pass; brackets within strings do not count."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == _BACKSLASH:
                escaped = True
            elif byte == _QUOTE:
                in_string = False
        elif byte == _QUOTE:
            in_string = True
        elif byte in _OPENERS:
            depth += 1
            deepest = max(deepest, depth)
        elif byte in _CLOSERS:
            depth -= 1
    return deepest
