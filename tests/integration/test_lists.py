"""Lists through GraphQL: contacts by prefix and by time, events, nodes; page by page."""

import json
from typing import Any

import httpx2
import pytest

from nexus_graph.api.cursors import CONTACT, FAMILY, encode_id
from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from tests.stage.graphing import identify, soft_delete

PEOPLE = [
    ("ada@example.com", "+15550000001"),
    ("ada.l@example.com", "+15550000001"),
    ("adam@example.com", "+15550000003"),
    ("bob@example.com", "+4915100000004"),
    ("ada@example.com", "+15550000005"),
    ("zoe@example.com", None),
    (None, "+15550000007"),
]

CONTACTS = """
query ($filter: ContactFilter, $first: Int, $after: String) {
  contacts(filter: $filter, first: $first, after: $after) {
    nodes { databaseId email phoneNumber linkPrecedence createdAt }
    edges { cursor node { databaseId } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    totalCount
  }
}"""


async def ask(api: httpx2.AsyncClient, query: str, **variables: object) -> dict[str, Any]:
    response = await api.post("/graphql", json={"query": query, "variables": variables})
    told: dict[str, Any] = response.json()
    return told


async def listed(api: httpx2.AsyncClient, *, first: int, **wanted: object) -> list[int]:
    """The ids of all pages; what each page says of itself is held against the whole."""
    found: list[int] = []
    after = None
    while True:
        page = (await ask(api, CONTACTS, filter=wanted or None, first=first, after=after))["data"]["contacts"]
        ids = [contact["databaseId"] for contact in page["nodes"]]
        assert ids == [edge["node"]["databaseId"] for edge in page["edges"]]
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        found += ids
        if not page["pageInfo"]["hasNextPage"]:
            assert page["totalCount"] == len(found)
            return found
        assert len(ids) == first
        after = page["pageInfo"]["endCursor"]
        assert after == page["edges"][-1]["cursor"]


@pytest.mark.parametrize("first", [1, 2, 100])
async def test_contacts_are_listed_by_prefix_and_by_time(api: httpx2.AsyncClient, pool: Pool, first: int) -> None:
    await identify(pool, *PEOPLE)
    assert await listed(api, first=first) == [1, 2, 3, 4, 5, 6, 7]
    assert await listed(api, first=first, emailPrefix="ada") == [2, 1, 5, 3]  # a dot is before an @ is before an m
    assert await listed(api, first=first, emailPrefix=" ADA@") == [1, 5]
    assert await listed(api, first=first, phonePrefix="+1 (555)") == [1, 2, 3, 5, 7]
    assert await listed(api, first=first, emailPrefix="%") == []
    times = [row["created_at"].isoformat() for row in await pool.fetch("SELECT created_at FROM contacts ORDER BY id")]
    assert await listed(api, first=first, createdFrom=times[2], createdBefore=times[5]) == [3, 4, 5]
    assert await listed(api, first=first, emailPrefix="ada", createdFrom=times[1]) == [2, 5, 3]
    await soft_delete(pool, 3)
    assert await listed(api, first=first) == [1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "page",
    [
        "contacts(after: $after) { nodes { id } pageInfo { hasPreviousPage } }",
        "identityEvents(after: $after) { nodes { sequence } pageInfo { hasPreviousPage } }",
        "node(id: $id) { ... on ContactFamily { secondaryContacts(after: $after) { nodes { id } } } }",
        "node(id: $id) { ... on ContactFamily { identityEvents(after: $after) { nodes { sequence } } } }",
    ],
)
async def test_an_empty_cursor_is_none(api: httpx2.AsyncClient, pool: Pool, page: str) -> None:
    await identify(pool, *PEOPLE)
    query = f"query ($after: String, $id: ID = {json.dumps(encode_id(FAMILY, 1))}) {{ {page} }}"
    if "$id" not in page:
        query = query.replace(f", $id: ID = {json.dumps(encode_id(FAMILY, 1))}", "")
    query = query.replace("$id: ID =", "$id: ID! =")
    first = await ask(api, query, after=None)
    assert "errors" not in first
    assert await ask(api, query, after="") == first


async def test_a_list_goes_on_after_a_contact_that_has_left(api: httpx2.AsyncClient, pool: Pool) -> None:
    await identify(pool, *PEOPLE)
    page = (await ask(api, CONTACTS, first=3))["data"]["contacts"]
    await soft_delete(pool, 3)
    page = (await ask(api, CONTACTS, first=3, after=page["pageInfo"]["endCursor"]))["data"]["contacts"]
    assert [contact["databaseId"] for contact in page["nodes"]] == [4, 5, 6]


@pytest.mark.parametrize(
    ("variables", "code", "field"),
    [
        ({"first": 101}, "PAGE_TOO_LARGE", "first"),
        ({"first": -1}, "BAD_USER_INPUT", "first"),
        ({"after": "bm8="}, "BAD_USER_INPUT", "after"),
        ({"after": "aW46MT1ib2I="}, "BAD_USER_INPUT", "after"),  # of a list in another order
        ({"after": "aW46MUAtOTk5OTk5OTk5OTk5OTk5OTk5OTk5"}, "BAD_USER_INPUT", "after"),
        ({"filter": {"emailPrefix": "a", "phonePrefix": "1"}}, "BAD_USER_INPUT", "filter"),
        ({"filter": {"emailPrefix": " "}}, "BAD_USER_INPUT", "emailPrefix"),
        ({"filter": {"emailPrefix": "a\u0000"}}, "BAD_USER_INPUT", "emailPrefix"),
        ({"filter": {"phonePrefix": "12x"}}, "BAD_USER_INPUT", "phonePrefix"),
    ],
)
async def test_a_list_that_cannot_be_is_refused_by_name(
    api: httpx2.AsyncClient, variables: dict[str, Any], code: str, field: str
) -> None:
    told = await ask(api, CONTACTS, **variables)
    (error,) = told["errors"]
    assert error["extensions"]["code"] == code
    assert error["extensions"]["fields"] == [field]


async def test_a_time_without_a_zone_or_sense_is_refused(api: httpx2.AsyncClient) -> None:
    for moment in ("yesterday", "2026-11-23T00:00:00", 7, "", "0001-01-01T00:00:00+14:00"):
        told = await ask(api, CONTACTS, filter={"createdFrom": moment})
        assert told["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT", moment


EVENTS = """
query ($contactId: ID, $first: Int, $after: String) {
  identityEvents(contactId: $contactId, first: $first, after: $after) {
    nodes { sequence at kind familyId contactId otherFamilyId reason requestId }
    edges { cursor node { sequence } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    totalCount
  }
}"""


async def test_events_tell_what_happened_to_a_family_and_to_those_it_took_in(
    api: httpx2.AsyncClient, pool: Pool
) -> None:
    await identify(pool, ("ada@example.com", "111"), ("bob@example.com", "222"), ("ada@example.com", "222"))
    await identify(pool, ("zoe@example.com", None), ("ada@example.com", "333"))
    everything = (await ask(api, EVENTS))["data"]["identityEvents"]
    kinds = ["CONTACT_CREATED", "CONTACT_CREATED", "FAMILIES_MERGED", "CONTACT_CREATED", "CONTACT_LINKED"]
    assert [event["kind"] for event in everything["nodes"]] == kinds
    assert everything["totalCount"] == 5
    first, second, merged, _, linked = everything["nodes"]
    assert (merged["familyId"], merged["otherFamilyId"]) == (encode_id(FAMILY, 1), encode_id(FAMILY, 2))
    assert linked["contactId"] == encode_id(CONTACT, 4)
    for contact_id in ("1", "2", encode_id(CONTACT, 4)):
        page = (await ask(api, EVENTS, contactId=contact_id, first=3))["data"]["identityEvents"]
        assert page["nodes"] == [first, second, merged]
        assert page["totalCount"] == 4
        rest = await ask(api, EVENTS, contactId=contact_id, first=3, after=page["pageInfo"]["endCursor"])
        assert rest["data"]["identityEvents"]["nodes"] == [linked]
    asked = 'query { contact(id: "2") { family { id identityEvents(first: 1) { nodes { sequence } totalCount } } } }'
    family = (await ask(api, asked))["data"]["contact"]["family"]
    assert family == {
        "id": encode_id(FAMILY, 1),
        "identityEvents": {"nodes": [{"sequence": first["sequence"]}], "totalCount": 4},
    }
    assert (await ask(api, EVENTS, contactId="999"))["data"]["identityEvents"]["nodes"] == []


async def test_nodes_come_in_the_order_asked_for(api: httpx2.AsyncClient, pool: Pool, settings: Settings) -> None:
    await identify(pool, *PEOPLE)
    document = "query ($ids: [ID!]!) { nodes(ids: $ids) { id __typename ... on Contact { email } } }"
    ids = [encode_id(CONTACT, 4), encode_id(FAMILY, 3), encode_id(CONTACT, 99), encode_id(CONTACT, 4)]
    nodes = (await ask(api, document, ids=ids))["data"]["nodes"]
    bob = {"id": ids[0], "__typename": "Contact", "email": "bob@example.com"}
    assert nodes == [bob, {"id": ids[1], "__typename": "ContactFamily"}, None, bob]
    (error,) = (await ask(api, document, ids=[ids[0]] * (settings.page_max + 1)))["errors"]
    assert error["extensions"]["code"] == "PAGE_TOO_LARGE"
