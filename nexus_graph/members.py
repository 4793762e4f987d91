"""The members of JSON objects: each name once.

RFC 8259 leaves open what becomes of a repeated name; parsers keep the first, the last or both. Who repeats one means
something that would be lost, so it is refused. The parser that we use keeps the last and does not tell.
"""

import json
import re
from typing import Any, Final

import msgspec

_OURS: Final = frozenset(
    {"email", "phoneNumber", "input", "query", "variables", "operationName", "documentId", "extensions"}
    | {"persistedQuery", "type", "id", "payload"}
)
"""Names that a message may show. Any other is a caller's text, which may hold an identifier."""

_encode = msgspec.json.Encoder(enc_hook=lambda _: 0).encode
"""What a decoder's hooks made of numbers is written as any number: it has no colon."""
_tokens = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL).finditer


class RepeatedMember(ValueError):
    """An object names a member twice. The message is safe to show: it tells the place, and the name if it is ours."""

    def __init__(self, name: str, line: int, column: int) -> None:
        shown = f'"{name}"' if name in _OURS else "a member"
        super().__init__(f"names {shown} twice in one object (line {line}, column {column})")


def check_members(raw: bytes, found: dict[str, Any]) -> None:
    """Raise RepeatedMember if an object of this JSON text names a member twice, at any depth.

    `raw` is well-formed JSON, and `found` what msgspec read of it. Most texts are cleared by comparing the two, in less
    than a microsecond; only what is left is read again, by a parser that tells of every member.
    """
    colons = raw.count(b":")
    if colons == len(found):  # each member has a colon, so the text has as many members as `found` at the least
        return
    written = _encode(found)
    if written == raw:  # as JavaScript writes it
        return
    # Colons within strings may hide a member more, but for those that `found` has as well, unless they are escaped.
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
    """Where the first repeated member of a well-formed text stands."""
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
