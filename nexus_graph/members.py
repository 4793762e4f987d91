"""The members of JSON objects: each name once.

RFC 8259 leaves the meaning of a repeated name open; parsers keep the first, the last or both. One of the values would
be lost, so the service refuses the text. msgspec keeps the last without a word.
"""

import json
import re
from typing import Any, Final

import msgspec

_OURS: Final = frozenset(
    {"email", "phoneNumber", "input", "query", "variables", "operationName", "documentId", "extensions"}
    | {"persistedQuery", "type", "id", "payload"}
)
"""Names that a message may show. Any other name is a caller's text and may hold an identifier."""

_encode = msgspec.json.Encoder(enc_hook=lambda _: 0).encode
"""Encodes any value that a decoder's hook made of a number as a number: numbers have no colon."""
_tokens = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL).finditer


class RepeatedMember(ValueError):
    """An object names a member twice. The message holds the place, and the name if it is one of ours."""

    def __init__(self, name: str, line: int, column: int) -> None:
        shown = f'"{name}"' if name in _OURS else "a member"
        super().__init__(f"names {shown} twice in one object (line {line}, column {column})")


def check_members(raw: bytes, found: dict[str, Any], colons: int | None = None) -> None:
    """Raise RepeatedMember if an object of this JSON text names a member twice, at any depth.

    `raw` is well-formed JSON with so many `colons` (None: count them), and `found` is msgspec's reading of it. A
    comparison of the two clears most texts in less than a microsecond; the rest is parsed again by a parser that
    reports every member.
    """
    if colons is None:
        colons = raw.count(b":")
    if colons == len(found):  # one colon a member: the text has no member more than `found`
        return
    written = _encode(found)
    if written == raw:  # the form that JavaScript writes
        return
    # A colon within a string may hide one more member, unless `found` has the same colon unescaped.
    if written.count(b":") == colons and b"\\u003" not in raw:
        return
    members(raw.decode(), parse_int=str, parse_float=str)


def members(text: str, **options: Any) -> Any:
    """As `json.loads`. Raises ValueError, and RepeatedMember, which is one."""
    try:
        return json.loads(text, object_pairs_hook=_distinct, **options)
    except _Repeated:
        raise _place_of_first(text) from None


class _Repeated(Exception):
    pass


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Repeated
    return found


def _place_of_first(text: str) -> RepeatedMember:
    """The line and column of the first repeated member of a well-formed text."""
    objects: list[set[str]] = []
    text_before, place = "", 0
    for token in _tokens(text):
        mark = token[0]
        if mark in "{[":
            objects.append(set())
        elif mark in "}]":
            objects.pop()
        elif mark == ":":
            name = json.loads(text_before)
            if name in objects[-1]:
                return RepeatedMember(name, text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place))
            objects[-1].add(name)
        elif mark != ",":
            text_before, place = mark, token.start()
    raise AssertionError("no member is repeated")
