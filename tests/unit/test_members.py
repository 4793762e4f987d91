"""No object of a JSON text names a member twice: found at every depth, in any spelling, and nothing else is refused."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_graph.members import RepeatedMember, check_members, members

REPEATED = [
    ('{"email":"a","email":"a"}', '"email" twice in one object (line 1, column 14)'),
    ('{"email": "a",\n "phone": 1,\n  "email": null}', '"email" twice in one object (line 3, column 3)'),
    (r'{"email": "a", "\u0065mail": "b"}', '"email" twice in one object (line 1, column 16)'),
    ('{"a@example.com": 1, "a@example.com": 2}', "a member twice in one object (line 1, column 22)"),
    ('{"query": "{a:b}", "query": "{a:b}"}', '"query" twice'),
    (r'{"a": "\u003a", "a": "\u003A"}', "a member twice"),
    (r'{"x": "\u003a\u003a\u003a", "a": 1, "a": 2, "b": {"c": 3}}', "a member twice"),
    (r'{"x": "\u003a", "a": 1, "a": 2}', "a member twice"),
    ('{"": 1, "": 2}', "a member twice"),
    (r'{"\"": 1, "\"": 2}', "a member twice"),
    ('{"variables": {"input": {"email": "a", "email": "b"}}}', '"email" twice in one object (line 1, column 40)'),
    ('{"a": [1, {"b": 1, "b": 1}, {"b": ":"}]}', "a member twice in one object (line 1, column 20)"),
    ('{"a": [[[{"b": {"c": 1, "c": 2}}]]], "d": 1.50}', "a member twice"),
    ('{"a": {"b": 1}, "a": {"b": 1}}', "a member twice in one object (line 1, column 17)"),
]
DISTINCT = [
    "{}",
    '{"email":"a","phoneNumber":"1"}',
    '{"email": "a:b", "phoneNumber": "::"}',
    '{"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 1}]}',
    r'{"a": "\u003a\u003a", "b:": "{\"b\": 1, \"b\": 2}"}',
    '{"Email": 1, "email": 2, "a": 1.0, "b": 1e5, "c": 123456789012345678901234567890}',
    ' { "a" : [ "a" , "a" ] } ',
]
VALUES = st.recursive(
    st.none() | st.integers() | st.text(':a\\"\u2028é', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(st.text(':ab"', max_size=2), inner), max_size=3).map(tuple)
    ),
    max_leaves=12,
)


def check(text: str) -> None:
    raw = text.encode()
    check_members(raw, msgspec.json.decode(raw))


@pytest.mark.parametrize(("text", "because"), REPEATED)
def test_a_repeated_name_is_refused_with_its_place(text: str, because: str) -> None:
    for judge in (check, members):
        with pytest.raises(RepeatedMember) as refused:
            judge(text)
        assert because in str(refused.value)
        assert "example.com" not in str(refused.value)


@pytest.mark.parametrize("text", DISTINCT)
def test_what_names_each_member_once_passes(text: str) -> None:
    check(text)
    assert members(text) == json.loads(text)


@given(st.lists(st.tuples(st.text(':ab"', max_size=2), VALUES), max_size=4).map(tuple), st.booleans(), st.booleans())
def test_both_ways_agree_whatever_the_text(pairs: tuple[Any, ...], spaced: bool, escaped: bool) -> None:  # noqa: FBT001
    text = _written(pairs, ": " if spaced else ":", ascii_only=escaped)
    assert _refused(check, text) is _refused(members, text) is _repeats(pairs)


def _refused(judge: Any, text: str) -> bool:
    try:
        judge(text)
    except RepeatedMember:
        return True
    return False


def _written(value: Any, colon: str, *, ascii_only: bool) -> str:
    """JSON in which a tuple of pairs is an object, its members as they come."""
    if isinstance(value, tuple):
        inner = [
            f"{_text(name, ascii_only)}{colon}{_written(item, colon, ascii_only=ascii_only)}" for name, item in value
        ]
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(item, colon, ascii_only=ascii_only) for item in value) + "]"
    return _text(value, ascii_only) if isinstance(value, str) else json.dumps(value)


def _text(value: str, ascii_only: bool) -> str:  # noqa: FBT001
    """The string in JSON; its colons escaped too, where it is to be ASCII."""
    written = json.dumps(value, ensure_ascii=ascii_only)
    return written.replace(":", r"\u003a") if ascii_only else written


def _repeats(value: Any) -> bool:
    if isinstance(value, tuple):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(_repeats(item) for _, item in value)
    return isinstance(value, list) and any(map(_repeats, value))
