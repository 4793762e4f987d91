"""Bad input, on both transports: told clearly, written nowhere, felt by nobody else."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus_graph.store.database import Pool
from tests.scenarios.callers import IDENTIFY, GraphQLCaller, RestCaller
from tests.stage.running import both_ways

JSON = {"Content-Type": "application/json"}
RAW_PATHS = ["/identify", "/graphql"]


@pytest.fixture
async def nothing_is_written(pool: Pool) -> AsyncIterator[None]:
    """Holds that the test wrote nothing."""

    async def rows() -> list[int]:
        tables = ("contacts", "evidence", "identity_events", "outbox", "aliases")
        return [await pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables]

    assert await rows() == [0] * 5
    yield
    assert await rows() == [0] * 5


def raw_body(path: str, members: bytes) -> bytes:
    """A body of `path` whose identifiers are these raw members of a JSON object."""
    if path == "/identify":
        return b"{" + members + b"}"
    return b'{"query": ' + json.dumps(IDENTIFY).encode() + b', "variables": {"input": {' + members + b"}}}"


async def told_of(api: httpx2.AsyncClient, path: str, members: bytes) -> tuple[int, str, str | None, str]:
    """Status, code, field and message of the refusal of a raw body."""
    response = await api.post(path, content=raw_body(path, members), headers=JSON)
    told = response.json()
    if path == "/identify":
        fields = [fault["field"] for fault in told["errors"]]
        return response.status_code, told["code"], fields[0] if len(fields) == 1 else None, told["detail"]
    if "errors" in told:
        return response.status_code, told["errors"][0]["extensions"]["code"], None, told["errors"][0]["message"]
    refused = told["data"]["identify"]
    return response.status_code, refused["code"], refused["field"], refused["message"]


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"email": 5}, "email"),
    ({"email": True}, "email"),
    ({"email": ["ada@example.com"]}, "email"),
    ({"email": {"address": "ada@example.com"}}, "email"),
    ({"email": "ada"}, "email"),
    ({"email": "ada@@example.com"}, "email"),
    ({"email": "ada lovelace@example.com"}, "email"),
    ({"email": "ada\x00@example.com"}, "email"),
    ({"email": "ada\x1b@example.com"}, "email"),
    ({"email": "ada\u202e@example.com"}, "email"),
    ({"email": "ada\u200b@example.com"}, "email"),
    ({"email": "ada\ud800@example.com"}, "email"),
    ({"email": "\udfff@example.com", "phoneNumber": "123456"}, "email"),
    ({"email": "x" * 65 + "@example.com"}, "email"),
    ({"email": "x@" + "d" * 253}, "email"),
    ({"email": "ada@example..com"}, "email"),
    ({"email": "ada@xn--a.example"}, "email"),
    ({"email": "x" * 60_000 + "@example.com"}, "email"),
    ({"phoneNumber": True}, "phoneNumber"),
    ({"phoneNumber": 1.5}, "phoneNumber"),
    ({"phoneNumber": 1234567.5}, "phoneNumber"),
    ({"phoneNumber": "030 1234562/63"}, "phoneNumber"),
    ({"phoneNumber": "2026-11-26"}, "phoneNumber"),
    ({"phoneNumber": 0}, "phoneNumber"),
    ({"phoneNumber": -123456}, "phoneNumber"),
    ({"phoneNumber": 10**30}, "phoneNumber"),
    ({"phoneNumber": ["123456"]}, "phoneNumber"),
    ({"phoneNumber": {}}, "phoneNumber"),
    ({"phoneNumber": "12"}, "phoneNumber"),
    ({"phoneNumber": "1" * 21}, "phoneNumber"),
    ({"phoneNumber": "1" * 60_000}, "phoneNumber"),
    ({"phoneNumber": "555-CALL"}, "phoneNumber"),
    ({"phoneNumber": "+999"}, "phoneNumber"),
    ({"phoneNumber": "123\x00456"}, "phoneNumber"),
    ({"phoneNumber": "123\ud800456"}, "phoneNumber"),
    ({"email": "ada@example.com", "phoneNumber": "12"}, "phoneNumber"),
]


@both_ways
@pytest.mark.usefixtures("nothing_is_written")
async def test_a_bad_field_is_named_on_both_transports_alike(api: httpx2.AsyncClient) -> None:
    for request, field in BAD_FIELDS:
        members = json.dumps(request)[1:-1].encode()
        rest = await told_of(api, "/identify", members)
        graphql = await told_of(api, "/graphql", members)
        assert rest[:3] == (400, "BAD_USER_INPUT", field), request
        assert graphql == (200, *rest[1:]), request
        assert rest[3].startswith(field)


@both_ways
@pytest.mark.usefixtures("nothing_is_written")
@pytest.mark.parametrize(
    "request_",
    [{}, {"email": None}, {"email": "", "phoneNumber": None}, {"phoneNumber": " "}, {"name": "Ada"}],
    ids=str,
)
async def test_nobody_is_named(api: httpx2.AsyncClient, request_: dict[str, Any]) -> None:
    status, code, field, message = await told_of(api, "/identify", json.dumps(request_)[1:-1].encode())
    assert (status, code, field) == (400, "BAD_USER_INPUT", None)
    assert "email" in message
    assert "phoneNumber" in message
    request_.pop("name", None)  # GraphQL knows its members
    assert await told_of(api, "/graphql", json.dumps(request_)[1:-1].encode()) == (200, code, None, message)


@pytest.mark.usefixtures("nothing_is_written")
@pytest.mark.parametrize("path", RAW_PATHS)
@pytest.mark.parametrize(
    "members",
    [
        b'"email": ',
        b'"email": "ada@example.com"}}}}',
        b'"email": "ada@example.com\xff"',
        b'"email": "ada@example.com\xed\xa0\x80"',
        b'"email": "ada\x00@example.com"',
        b'"phoneNumber": NaN',
        b'"phoneNumber": Infinity',
        b'"phoneNumber": 0x10',
        b'"email": "ada@example.com", "email": "ada@example.com"',
        b'"email": "ada@example.com", "\\u0065mail": null',
        b'"email": {"a": [{"b": 1, "b": 1}]}',
        b'"email": ' + b"[" * 30_000 + b"]" * 30_000,
        b'"email": ' + b'{"a":' * 100 + b"1" + b"}" * 100,
    ],
    ids=lambda members: ascii(members)[:32],
)
async def test_unreadable_json(api: httpx2.AsyncClient, path: str, members: bytes) -> None:
    status, code, _, message = await told_of(api, path, members)
    assert (status, code) == (400, "BAD_REQUEST")
    assert message.startswith("the body ")


@both_ways
@pytest.mark.usefixtures("nothing_is_written")
@pytest.mark.parametrize("path", RAW_PATHS)
@pytest.mark.parametrize("body", [b"null", b'"ada@example.com"', b"5", b"true"], ids=ascii)
async def test_json_that_is_no_object(api: httpx2.AsyncClient, path: str, body: bytes) -> None:
    response = await api.post(path, content=body, headers=JSON)
    assert response.status_code == 400
    assert "must be a JSON object" in response.text


@both_ways
@pytest.mark.usefixtures("nothing_is_written")
@pytest.mark.parametrize("path", RAW_PATHS)
async def test_a_body_past_the_limit_is_refused(api: httpx2.AsyncClient, path: str) -> None:
    body = raw_body(path, b'"email": "ada@example.com", "phoneNumber": "' + b"1" * 70_000 + b'"')

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1_000):
            yield body[start : start + 1_000]

    content: bytes | AsyncIterator[bytes]
    for content in (body, chunks()):
        response = await api.post(path, content=content, headers=JSON)
        assert response.status_code == 413
        assert "65536 bytes" in response.text


@both_ways
@pytest.mark.usefixtures("nothing_is_written")
@pytest.mark.parametrize("path", RAW_PATHS)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
)
async def test_a_wrong_content_type(api: httpx2.AsyncClient, path: str, content_type: str) -> None:
    body = raw_body(path, b'"email": "ada@example.com"')
    response = await api.post(path, content=body, headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert "application/json" in response.text


@both_ways
@pytest.mark.parametrize("path", RAW_PATHS)
async def test_callers_beside_bad_ones_are_served(path: str, api: httpx2.AsyncClient, pool: Pool) -> None:
    async def ask(request: dict[str, Any]) -> str:
        response = await api.post(path, content=raw_body(path, json.dumps(request)[1:-1].encode()), headers=JSON)
        return "bad" if "BAD_USER_INPUT" in response.text else "served" if response.status_code == 200 else "failed"

    bad = [request for request, _ in BAD_FIELDS]
    good: list[dict[str, Any]] = [{"email": f"user{number}@example.com"} for number in range(len(bad))]
    answers = await asyncio.gather(*(ask(request) for pair in zip(good, bad, strict=True) for request in pair))
    assert answers == ["served", "bad"] * len(bad)
    assert await pool.fetchval("SELECT count(*) FROM contacts") == len(good)


@both_ways
async def test_a_value_the_record_cannot_hold_fails_its_own_request_only(api: httpx2.AsyncClient, pool: Pool) -> None:
    """Past all checks of ours, the record's own rule still judges one row, not a batch."""
    await pool.execute("ALTER TABLE contacts ADD CONSTRAINT no_mallory CHECK (email NOT LIKE 'mallory%')")
    emails = [f"user{number}@example.com" for number in range(20)]
    emails.insert(10, "mallory@example.com")
    rest, graphql = RestCaller(api), GraphQLCaller(api)
    answers = await asyncio.gather(*(rest.identify({"email": email}) for email in emails))
    assert [answer.outcome for answer in answers] == ["CREATED"] * 10 + [None] + ["CREATED"] * 10
    assert (answers[10].code, answers[10].fields) == ("ROW_REJECTED", ())
    refused = await graphql.identify({"email": "mallory@example.com"})
    assert (refused.code, refused.message) == ("ROW_REJECTED", answers[10].message)
    assert "mallory" not in refused.message


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@both_ways
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=st.dictionaries(st.sampled_from(["email", "phoneNumber"]), ANYTHING))
async def test_any_json_is_answered_alike_and_never_with_a_5xx(
    api: httpx2.AsyncClient, members: dict[str, object]
) -> None:
    raw = json.dumps(members)[1:-1].encode()
    rest = await api.post("/identify", content=raw_body("/identify", raw), headers=JSON)
    graphql = await api.post("/graphql", content=raw_body("/graphql", raw), headers=JSON)
    assert rest.status_code in (200, 400), rest.text
    assert graphql.status_code in (200, 400), graphql.text
    told = graphql.json().get("data", {}).get("identify", {})
    assert (rest.status_code == 200) == ("family" in told)


LOOKUP = """
query ($by: FamilyLookup!, $atLeast: BigInt, $source: FamilySource, $first: Int, $after: String, $id: ID!) {
  contactFamily(by: $by, atLeast: $atLeast, source: $source) {
    secondaryContacts(first: $first, after: $after) { totalCount }
  }
  contact(id: $id) { id }
  node(id: $id) { id }
}
"""


@both_ways
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    variables=st.dictionaries(st.sampled_from(["atLeast", "source", "first", "after", "id"]), ANYTHING),
    by=ANYTHING | st.dictionaries(st.sampled_from(["contactId", "email", "phoneNumber"]), ANYTHING, max_size=2),
)
async def test_any_variables_are_answered_and_never_with_a_5xx(
    api: httpx2.AsyncClient, variables: dict[str, object], by: object
) -> None:
    request = {"query": LOOKUP, "variables": {"id": "1", **variables, "by": by}}
    response = await api.post("/graphql", content=json.dumps(request), headers=JSON)
    assert response.status_code in (200, 400), response.text
    codes = {error["extensions"]["code"] for error in response.json().get("errors", ())}
    assert codes <= {"BAD_REQUEST", "BAD_USER_INPUT", "PAGE_TOO_LARGE", "UNAVAILABLE"}, response.text


@both_ways
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
async def test_any_bytes_are_refused(api: httpx2.AsyncClient, body: bytes) -> None:
    for path in RAW_PATHS:
        response = await api.post(path, content=body, headers=JSON)
        assert 400 <= response.status_code < 500, response.text


@both_ways
@pytest.mark.parametrize(
    "variables", [{"source": "\ud800"}, {"source": "ada@example.com"}, {"atLeast": "ada@x"}], ids=ascii
)
async def test_refused_variables_are_not_repeated(api: httpx2.AsyncClient, variables: dict[str, object]) -> None:
    request = {"query": LOOKUP, "variables": {"id": "1", "by": {"contactId": "1"}, **variables}}
    response = await api.post("/graphql", content=json.dumps(request), headers=JSON)
    told = response.json()
    assert told["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert "ada" not in response.text


@both_ways
async def test_a_member_without_utf8_is_refused(api: httpx2.AsyncClient) -> None:
    request = {"query": LOOKUP, "variables": {"id": "1", "by": {"\ud800": "x"}}}
    response = await api.post("/graphql", content=json.dumps(request), headers=JSON)
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
