"""POST /graphql: the standard over HTTP, the questions clients ask, and what they are told when it goes wrong."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from graphql import build_client_schema, get_introspection_query

from nexus_graph.api.cursors import CONTACT, FAMILY, encode_id
from nexus_graph.store.database import Pool
from tests.integration.test_rest import UNKNOWN_OUTCOME
from tests.stage.running import both_ways

pytestmark = both_ways

RESPONSE = "application/graphql-response+json; charset=utf-8"
PLAIN = "application/json; charset=utf-8"
TYPENAME = json.dumps({"query": "{__typename}"}).encode()
JSON = {"Content-Type": "application/json"}

SECONDARIES = """
query ($by: FamilyLookup!, $first: Int, $after: String) {
  contactFamily(by: $by) {
    secondaryContacts(first: $first, after: $after) {
      nodes { databaseId }
      edges { cursor node { databaseId } }
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
      totalCount
    }
  }
}
"""


async def ask(api: httpx2.AsyncClient, query: str, **variables: object) -> dict[str, Any]:
    """The whole answer to an operation that could be executed."""
    response = await api.post("/graphql", json={"query": query, "variables": variables})
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    cost = told.pop("extensions")["cost"]
    assert 0 <= cost["requested"] <= cost["max"]
    return told


async def family_of(api: httpx2.AsyncClient, contacts: int) -> None:
    """One family, in both stores: a primary with id 1 and the secondaries 2, 3, …"""
    for number in range(contacts):
        response = await api.post("/identify", json={"email": "ada@example.com", "phoneNumber": 100_000 + number})
        assert response.status_code == 200
    # The server itself waits a moment for the graph, and says so when that was not enough.
    fresh = "query ($version: BigInt) { contactFamily(by: {contactId: 1}, atLeast: $version, source: GRAPH) { id } }"
    async with asyncio.timeout(60):
        while "errors" in await ask(api, fresh, version=contacts):
            pass


@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        (None, 200, PLAIN),
        ("*/*", 200, PLAIN),
        ("application/json", 200, PLAIN),
        ("application/graphql-response+json", 200, RESPONSE),
        ("application/graphql-response+json, application/json;q=0.9", 200, RESPONSE),
        ("text/html", 406, RESPONSE),
    ],
)
async def test_the_media_type_is_negotiated(
    api: httpx2.AsyncClient, accept: str | None, status: int, content_type: str
) -> None:
    request = api.build_request("POST", "/graphql", content=TYPENAME, headers=JSON)
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    response = await api.send(request)
    assert (response.status_code, response.headers["content-type"]) == (status, content_type)
    if status == 200:
        assert response.json()["data"] == {"__typename": "Query"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "BAD_REQUEST"),
        (b"{", 400, "BAD_REQUEST"),
        (b'{"query": "{__typename}\xff"}', 400, "BAD_REQUEST"),
        (b'{"query": ' + b"[" * 50_000 + b"}", 400, "BAD_REQUEST"),
        (b'"{__typename}"', 400, "BAD_REQUEST"),
        (rb'{"query": "{__typename} #\ud800"}', 400, "BAD_REQUEST"),
        (b'[{"query": "{__typename}"}]', 422, "BAD_REQUEST"),
        (b"{}", 422, "BAD_REQUEST"),
        (b'{"query": null}', 422, "BAD_REQUEST"),
        (b'{"query": 5}', 422, "BAD_REQUEST"),
        (b'{"qeury": "{__typename}"}', 422, "BAD_REQUEST"),
        (b'{"query": "{__typename}", "variables": [7]}', 422, "BAD_REQUEST"),
        (b'{"query": "{__typename}", "variables": "x"}', 422, "BAD_REQUEST"),
        (b'{"query": "{__typename}", "operationName": 7}', 422, "BAD_REQUEST"),
        (b'{"query": "{__typename}", "extensions": 7}', 422, "BAD_REQUEST"),
        (b'{"query": "{"}', 400, "GRAPHQL_PARSE_FAILED"),
        (b'{"query": ""}', 400, "GRAPHQL_PARSE_FAILED"),
        (b'{"query": "{nothing}"}', 422, "GRAPHQL_VALIDATION_FAILED"),
        (b'{"query": "subscription {nothing}"}', 422, "GRAPHQL_VALIDATION_FAILED"),
        (b'{"query": "fragment F on Query {__typename}"}', 422, "GRAPHQL_VALIDATION_FAILED"),
        (b'{"query": "query A {__typename} query B {__typename}"}', 422, "OPERATION_RESOLUTION_FAILURE"),
        (b'{"query": "query A {__typename}", "operationName": "B"}', 422, "OPERATION_RESOLUTION_FAILURE"),
        (b'{"query": "{__typename}", "operationName": "B"}', 422, "OPERATION_RESOLUTION_FAILURE"),
        (b'{"query": "query ($id: ID!) {contact(id: $id) {id}}"}', 422, "BAD_USER_INPUT"),
        (b'{"query": "query ($id: ID!) {contact(id: $id) {id}}", "variables": {"id": 1.5}}', 422, "BAD_USER_INPUT"),
        (b'{"query": "{a: __typename b: __typename c: __typename d: __typename e: __typename f: __typename}"}', 422,
         "LIMIT_EXCEEDED"),
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
async def test_what_cannot_be_executed_is_a_4xx_without_data(
    api: httpx2.AsyncClient, body: bytes, status: int, code: str
) -> None:
    response = await api.post("/graphql", content=body, headers={**JSON, "Accept": "application/graphql-response+json"})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == RESPONSE
    told = response.json()
    assert told.keys() == {"errors"}
    assert told["errors"][0]["extensions"]["code"] == code

    # A client that knows only JSON would throw a 4xx away: what its document did wrong, it is told with 200.
    legacy = await api.post("/graphql", content=body, headers=JSON)
    of_document = code != "BAD_REQUEST"
    assert legacy.status_code == (200 if of_document else status)
    assert legacy.headers["content-type"] == (PLAIN if of_document else RESPONSE)
    assert legacy.json() == told


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
async def test_only_json_is_read(api: httpx2.AsyncClient, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await api.post("/graphql", content=TYPENAME, headers=headers)
    assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_other_methods_are_not_served(api: httpx2.AsyncClient) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        response = await api.request(method, "/graphql", params={"query": "{__typename}"})
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert "data" not in response.json()


async def test_a_browser_is_told_how_to_ask(api: httpx2.AsyncClient) -> None:
    response = await api.get("/graphql", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "POST" in response.text


async def test_introspection_tells_the_whole_schema(api: httpx2.AsyncClient) -> None:
    told = await ask(api, get_introspection_query(input_value_deprecation=True, one_of=True, specified_by_url=True))
    schema = build_client_schema(told["data"])
    assert {"Contact", "ContactFamily", "IdentifyResult", "UserError"} <= schema.type_map.keys()
    lookup = next(type_ for type_ in told["data"]["__schema"]["types"] if type_["name"] == "FamilyLookup")
    assert lookup["isOneOf"] is True


async def test_identify_tells_what_it_did_and_the_whole_family(api: httpx2.AsyncClient) -> None:
    await api.post("/identify", json={"email": "ada@example.com", "phoneNumber": "123456"})
    document = """
      mutation ($email: String, $phone: String) {
        identify(input: {email: $email, phoneNumber: $phone}) {
          __typename
          ... on IdentifySuccess {
            outcome reason version
            family {
              id version source emails phoneNumbers
              primaryContact { id databaseId email phoneNumber linkPrecedence createdAt }
              secondaryContacts { nodes { databaseId phoneNumber linkPrecedence } totalCount }
            }
          }
        }
      }
    """
    told = (await ask(api, document, email="Ada@Example.com", phone="999999"))["data"]["identify"]
    created_at = told["family"]["primaryContact"].pop("createdAt")
    assert created_at.endswith("Z")
    assert told == {
        "__typename": "IdentifySuccess",
        "outcome": "LINKED",
        "reason": None,
        "version": 2,
        "family": {
            "id": encode_id(FAMILY, 1),
            "version": 2,
            "source": "RECORD",
            "emails": ["ada@example.com"],
            "phoneNumbers": ["123456", "999999"],
            "primaryContact": {
                "id": encode_id(CONTACT, 1),
                "databaseId": 1,
                "email": "ada@example.com",
                "phoneNumber": "123456",
                "linkPrecedence": "PRIMARY",
            },
            "secondaryContacts": {
                "nodes": [{"databaseId": 2, "phoneNumber": "999999", "linkPrecedence": "SECONDARY"}],
                "totalCount": 1,
            },
        },
    }


async def test_a_bad_identifier_is_data(api: httpx2.AsyncClient) -> None:
    document = """
      mutation ($input: IdentifyInput!) {
        identify(input: $input) { __typename ... on UserError { code message field } }
      }
    """
    told = await ask(api, document, input={"email": "nobody"})
    assert told == {
        "data": {
            "identify": {
                "__typename": "InvalidIdentifierError",
                "code": "BAD_USER_INPUT",
                "message": "email must be text, one @ and a domain",
                "field": "email",
            }
        }
    }
    told = await ask(api, document, input={})
    assert told["data"]["identify"]["field"] is None
    assert "email or phoneNumber" in told["data"]["identify"]["message"]


@pytest.mark.parametrize(
    "by",
    [
        {"contactId": "1"},
        {"contactId": 2},
        {"contactId": encode_id(CONTACT, 3)},
        {"contactId": encode_id(FAMILY, 1)},
        {"email": " ADA@example.com"},
        {"phoneNumber": "10-00-02"},
        {"phoneNumber": 100_001},
    ],
    ids=str,
)
async def test_a_family_is_found_by_whatever_is_known_of_it(api: httpx2.AsyncClient, by: dict[str, object]) -> None:
    await family_of(api, 3)
    told = await ask(api, SECONDARIES, by=by)
    assert [node["databaseId"] for node in told["data"]["contactFamily"]["secondaryContacts"]["nodes"]] == [2, 3]


@pytest.mark.parametrize(
    "by", [{"contactId": "77"}, {"email": "nobody@example.com"}, {"phoneNumber": "777777"}], ids=str
)
async def test_a_family_that_is_not_there_is_null(api: httpx2.AsyncClient, by: dict[str, object]) -> None:
    assert await ask(api, SECONDARIES, by=by) == {"data": {"contactFamily": None}}


@pytest.mark.parametrize(
    ("by", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": " "}, "email"),
        ({"email": 5}, "email"),
        ({"phoneNumber": "12"}, "phoneNumber"),
        ({"phoneNumber": ["123456"]}, "phoneNumber"),
        ({"contactId": "x"}, "contactId"),
        ({"contactId": "0"}, "contactId"),
        ({"contactId": "-1"}, "contactId"),
        ({"contactId": str(2**63)}, "contactId"),
        ({"contactId": encode_id("Person", 1)}, "contactId"),
    ],
    ids=str,
)
async def test_a_bad_lookup_is_an_error_that_names_the_field(
    api: httpx2.AsyncClient, by: dict[str, object], field: str
) -> None:
    told = await ask(api, SECONDARIES, by=by)
    assert told["data"] == {"contactFamily": None}
    (error,) = told["errors"]
    assert error["path"] == ["contactFamily"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "fields": [field]}
    assert field in error["message"]


@pytest.mark.parametrize("by", [{}, {"email": "a@b.c", "contactId": "1"}, {"email": None}, None, "x"], ids=str)
async def test_a_lookup_says_exactly_one_thing(api: httpx2.AsyncClient, by: object) -> None:
    response = await api.post("/graphql", json={"query": SECONDARIES, "variables": {"by": by}})
    assert "data" not in response.json()
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_pages_miss_and_repeat_nothing(api: httpx2.AsyncClient) -> None:
    await family_of(api, 8)
    seen: list[int] = []
    after = None
    for expected_more in (True, True, False):
        told = await ask(api, SECONDARIES, by={"contactId": 1}, first=3, after=after)
        page = told["data"]["contactFamily"]["secondaryContacts"]
        assert [edge["node"]["databaseId"] for edge in page["edges"]] == [node["databaseId"] for node in page["nodes"]]
        assert page["pageInfo"] == {
            "hasNextPage": expected_more,
            "hasPreviousPage": after is not None,
            "startCursor": page["edges"][0]["cursor"],
            "endCursor": page["edges"][-1]["cursor"],
        }
        assert page["totalCount"] == 7
        seen += [node["databaseId"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
    assert seen == [2, 3, 4, 5, 6, 7, 8]
    told = await ask(api, SECONDARIES, by={"contactId": 1}, first=3, after=after)
    assert told["data"]["contactFamily"]["secondaryContacts"]["nodes"] == []
    told = await ask(api, SECONDARIES, by={"contactId": 1}, first=0)
    assert told["data"]["contactFamily"]["secondaryContacts"]["pageInfo"]["hasNextPage"] is True


@pytest.mark.parametrize(
    ("page", "code", "field"),
    [
        ({"first": 101}, "PAGE_TOO_LARGE", "first"),
        ({"first": 2**31 - 1}, "PAGE_TOO_LARGE", "first"),
        ({"first": -1}, "BAD_USER_INPUT", "first"),
        ({"after": "nonsense"}, "BAD_USER_INPUT", "after"),
        ({"after": encode_id(CONTACT, 1)}, "BAD_USER_INPUT", "after"),
    ],
    ids=str,
)
async def test_bad_pages_are_typed_errors(
    api: httpx2.AsyncClient, page: dict[str, object], code: str, field: str
) -> None:
    await family_of(api, 2)
    told = await ask(api, SECONDARIES, by={"contactId": 1}, **page)
    assert told["data"] == {"contactFamily": None}
    assert told["errors"][0]["extensions"] == {"code": code, "fields": [field]}
    assert told["errors"][0]["path"] == ["contactFamily", "secondaryContacts"]


async def test_contacts_and_nodes_by_id(api: httpx2.AsyncClient) -> None:
    await family_of(api, 2)
    document = """
      query ($raw: ID!, $contact: ID!, $family: ID!) {
        contact(id: $raw) { id databaseId linkPrecedence }
        one: node(id: $contact) { __typename id ... on Contact { databaseId linkPrecedence } }
        whole: node(id: $family) { __typename id ... on ContactFamily { emails } }
      }
    """
    told = await ask(api, document, raw=1, contact=encode_id(CONTACT, 2), family=encode_id(FAMILY, 1))
    assert told == {
        "data": {
            "contact": {"id": encode_id(CONTACT, 1), "databaseId": 1, "linkPrecedence": "PRIMARY"},
            "one": {
                "__typename": "Contact",
                "id": encode_id(CONTACT, 2),
                "databaseId": 2,
                "linkPrecedence": "SECONDARY",
            },
            "whole": {"__typename": "ContactFamily", "id": encode_id(FAMILY, 1), "emails": ["ada@example.com"]},
        }
    }
    absent = encode_id(CONTACT, 77)
    told = await ask(api, document, raw="77", contact=absent, family=encode_id(FAMILY, 77))
    assert told == {"data": {"contact": None, "one": None, "whole": None}}
    told = await ask(api, '{node(id: "1") {id}}')
    assert told["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_reading_ones_own_write(api: httpx2.AsyncClient) -> None:
    document = "query ($version: BigInt) {contactFamily(by: {contactId: 1}, atLeast: $version) {version phoneNumbers}}"
    for number in range(1, 6):
        response = await api.post("/identify", json={"email": "ada@example.com", "phoneNumber": 100_000 + number})
        assert response.status_code == 200
        family = (await ask(api, document, version=number))["data"]["contactFamily"]
        assert family["version"] == number
        assert len(family["phoneNumbers"]) == number


async def test_one_caller_cannot_spread_over_many_operations(api: httpx2.AsyncClient, pool: Pool) -> None:
    aliases = " ".join(
        f'm{number}: identify(input: {{phoneNumber: "1000{number}"}}) {{__typename}}' for number in range(6)
    )
    response = await api.post("/graphql", json={"query": f"mutation {{{aliases}}}"})
    assert response.json()["errors"][0]["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": "rootFields", "max": 5}
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 0


async def test_the_unexpected_is_masked(
    api: httpx2.AsyncClient, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await pool.execute(UNKNOWN_OUTCOME)
    response = await api.post(
        "/graphql", json={"query": 'mutation {identify(input: {email: "ada@example.com"}) {__typename}}'}
    )
    assert response.status_code == 200
    told = response.json()
    correlation_id = response.headers["x-request-id"]
    assert told["data"] is None
    (error,) = told["errors"]
    assert error["message"] == "Internal error"
    assert error["path"] == ["identify"]
    assert error["extensions"] == {"code": "INTERNAL", "correlationId": correlation_id}
    logged = "".join(capsys.readouterr())
    assert correlation_id in logged
    assert "ValueError" in logged
    assert "ada@" not in logged + response.text
