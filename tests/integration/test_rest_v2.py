"""/v2 where the door stands open: identify and its batch, families and contacts with their tags, lists, events."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from nexus_graph.api.cursors import CONTACT, EVENT, FAMILY, encode_id
from nexus_graph.store.database import Pool
from tests.stage.running import ApiServer, both_ways

ADA = {"email": "ada@example.com", "phoneNumber": "+14155550100"}
BOB = {"email": "bob@example.com", "phoneNumber": "+14155550101"}


async def identified(api: httpx2.AsyncClient, **given: object) -> dict[str, Any]:
    response = await api.post("/v2/identify", json=given)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@both_ways
async def test_identify_says_what_was_decided(api: httpx2.AsyncClient) -> None:
    created = await identified(api, **ADA)
    assert created == {
        "outcome": "CREATED",
        "version": created["version"],
        "reason": None,
        "family": {
            "id": encode_id(FAMILY, 1),
            "version": created["version"],
            "emails": ["ada@example.com"],
            "phoneNumbers": ["+14155550100"],
            "primaryContact": {
                "id": encode_id(CONTACT, 1),
                "databaseId": 1,
                "email": "ada@example.com",
                "phoneNumber": "+14155550100",
                "linkPrecedence": "PRIMARY",
                "createdAt": created["family"]["primaryContact"]["createdAt"],
            },
            "secondaryContacts": [],
        },
    }
    linked = await identified(api, email="lovelace@example.com", phoneNumber="+1 415 555 0100 x7")
    assert (linked["outcome"], linked["dropped"]) == ("LINKED", [{"field": "phoneNumber", "part": "extension"}])
    assert [one["databaseId"] for one in linked["family"]["secondaryContacts"]] == [2]
    assert (await identified(api, email="ada@example.com"))["outcome"] == "MATCHED"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "ada@example.com", "name": "Ada"}, 400, "BAD_REQUEST"),
        ({"email": "nobody"}, 400, "BAD_USER_INPUT"),
        ({}, 400, "BAD_USER_INPUT"),
        ([], 400, "BAD_REQUEST"),
    ],
    ids=["unknown member", "no email", "nothing", "a list"],
)
async def test_identify_refuses(api: httpx2.AsyncClient, pool: Pool, body: object, status: int, code: str) -> None:
    response = await api.post("/v2/identify", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert "Ada" not in response.text
    response = await api.post("/v2/identify/batch", json={"rows": [body]})
    (result,) = response.json()["results"]
    assert (response.status_code, result["status"], result["code"]) == (200, status, code)
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 0


async def test_a_body_without_its_type_is_refused(api: httpx2.AsyncClient) -> None:
    for path in ("/v2/identify", "/v2/identify/batch"):
        assert (await api.post(path, content=b"{}")).status_code == 415


async def test_rows_of_a_batch_are_decided_in_order(api: httpx2.AsyncClient) -> None:
    await identified(api, **ADA)
    await identified(api, **BOB)
    rows: list[Any] = [
        {"email": "ada@example.com"},
        {"email": "ada@example.com", "phoneNumber": BOB["phoneNumber"]},
        {"phoneNumber": BOB["phoneNumber"]},
        {"email": "not an email"},
        {"email": "new@example.com"},
        {"email": "new@example.com", "phoneNumber": "+14155550199"},
        {"email": "new@example.com"},
        {"email": "ada@example.com", "colour": "red"},
    ]
    response = await api.post("/v2/identify/batch", json={"rows": rows})
    results = response.json()["results"]
    assert [result["status"] for result in results] == [200, 200, 200, 400, 200, 200, 200, 400]
    outcomes = [result.get("outcome", result.get("code")) for result in results]
    assert outcomes == [
        "MATCHED", "MERGED", "MATCHED", "BAD_USER_INPUT", "CREATED", "LINKED", "MATCHED", "BAD_REQUEST",
    ]  # fmt: skip
    # The third row was known before the batch too; its answer is of after the second.
    assert results[2]["family"] == results[1]["family"]
    assert len(results[0]["family"]["secondaryContacts"]) == 0
    assert len(results[2]["family"]["secondaryContacts"]) == 1
    assert results[6]["version"] == results[5]["version"]


async def test_a_batch_has_500_rows_and_its_own_limit_of_bytes(api: httpx2.AsyncClient, pool: Pool) -> None:
    domain = "x" * 60 + "." + "y" * 60 + ".example"
    rows = [
        {"email": f"{number:04}{'a' * 60}@{domain}", "phoneNumber": f"+1415555{number:04}"} for number in range(500)
    ]
    response = await api.post("/v2/identify/batch", json={"rows": rows})
    assert len(response.request.content) > 64 * 1024
    assert [result["outcome"] for result in response.json()["results"]] == ["CREATED"] * 500
    assert [result["family"]["emails"][0][:4] for result in response.json()["results"]] == [
        f"{number:04}" for number in range(500)
    ]
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 500
    response = await api.post("/v2/identify/batch", json={"rows": [*rows, rows[0]]})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "rows")
    response = await api.post(
        "/v2/identify/batch", content=b" " * 600_000, headers={"content-type": "application/json"}
    )
    assert response.status_code == 413
    response = await api.post("/v2/identify", content=b" " * 100_000, headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert (await api.post("/v2/identify/batch", json={"rows": []})).json() == {"results": []}
    wrongs: list[dict[str, Any]] = [{}, {"rows": {}}, {"rows": [], "row": 1}]
    for wrong in wrongs:
        assert (await api.post("/v2/identify/batch", json=wrong)).status_code == 400
    (result,) = (await api.post("/v2/identify/batch", json={"rows": [7]})).json()["results"]
    assert (result["status"], result["code"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}], ids=["without a key", "with a key"])
async def test_an_answer_holds_so_many_contacts(
    api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """Rows past them are decided as well; their families can be read."""
    monkeypatch.setattr("nexus_graph.identity.ordered.SHOWN_MAX_CONTACTS", 4)
    rows: list[Any] = [{"email": f"user{number}@example.com", "phoneNumber": "123456"} for number in range(4)]
    rows.insert(1, {"email": "no"})
    headers = {**headers, "X-Request-ID": "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0"}  # a problem holds it
    answer = await api.post("/v2/identify/batch", json={"rows": rows}, headers=headers)
    results = answer.json()["results"]
    assert [result.get("outcome") for result in results] == ["CREATED", None, "LINKED", "LINKED", "LINKED"]
    assert [result.get("family", 0) is None for result in results] == [False, False, False, True, True]
    assert results[4]["version"] > results[3]["version"] > results[2]["version"]
    family = (await api.get(f"/v2/families?phoneNumber=123456&atLeast={results[4]['version']}")).json()
    assert len(family["secondaryContacts"]) == 3
    again = await api.post("/v2/identify/batch", json={"rows": rows}, headers=headers)
    assert (again.text == answer.text) == ("Idempotency-Key" in headers)
    first, *_ = (await api.post("/v2/identify/batch", json={"rows": [*rows, *rows]})).json()["results"]
    assert len(first["family"]["secondaryContacts"]) == 3


async def test_families_are_found_and_revalidated(api: httpx2.AsyncClient) -> None:
    version = (await identified(api, **ADA))["version"]
    urls = [
        f"/v2/families?email=ada%40example.com&atLeast={version}",
        f"/v2/families?phoneNumber=%2B1+415+555+0100&atLeast={version}",
        f"/v2/families?contactId=1&atLeast={version}",
        f"/v2/families/1?atLeast={version}",
        f"/v2/families/{encode_id(CONTACT, 1)}?atLeast={version}",
        f"/v2/contacts/1?atLeast={version}",
    ]
    bodies = []
    for url in urls:
        response = await api.get(url)
        assert response.status_code == 200, response.text
        assert response.headers["etag"] == f'W/"{version}-full"'
        assert response.headers["cache-control"] == "private, no-cache"
        bodies.append(response.json())
        again = await api.get(url, headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", response.headers["etag"])
        head = await api.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == response.headers["content-length"]
    assert all(body == bodies[0] for body in bodies[:5])
    assert bodies[5] == bodies[0]["primaryContact"]
    newer = (await identified(api, email="lovelace@example.com", phoneNumber=ADA["phoneNumber"]))["version"]
    response = await api.get(f"/v2/families/1?atLeast={newer}", headers={"If-None-Match": f'W/"{version}-full"'})
    assert (response.status_code, response.headers["etag"]) == (200, f'W/"{newer}-full"')
    assert (await api.get(f"/v2/contacts/2?atLeast={newer}")).json()["linkPrecedence"] == "SECONDARY"


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("/v2/families", 400, "BAD_USER_INPUT"),
        ("/v2/families?email=a%40b.example&contactId=1", 400, "BAD_USER_INPUT"),
        ("/v2/families?email=", 400, "BAD_USER_INPUT"),
        ("/v2/families?email=a%40b.example&email=b%40b.example", 400, "BAD_REQUEST"),
        ("/v2/families?mail=a%40b.example", 400, "BAD_REQUEST"),
        ("/v2/families?phoneNumber=+14155550100", 400, "BAD_REQUEST"),
        ("/v2/families?email=%ff%fe", 400, "BAD_REQUEST"),
        ("/v2/families?email=nobody%40example.com", 404, "NOT_FOUND"),
        ("/v2/families?email=ada%40example.com&atLeast=x", 400, "BAD_USER_INPUT"),
        ("/v2/families?email=ada%40example.com&atLeast=-1", 400, "BAD_USER_INPUT"),
        ("/v2/families?email=ada%40example.com&atLeast=999999999", 400, "VERSION_UNKNOWN"),
        ("/v2/families/99", 404, "NOT_FOUND"),
        ("/v2/families/0", 400, "BAD_USER_INPUT"),
        ("/v2/families/99999999999999999999", 400, "BAD_USER_INPUT"),
        ("/v2/families/1?x=1", 400, "BAD_REQUEST"),
        ("/v2/contacts/99", 404, "NOT_FOUND"),
        ("/v2/contacts/%00", 400, "BAD_USER_INPUT"),
        ("/v2/contacts?limit=0", 400, "BAD_USER_INPUT"),
        ("/v2/contacts?limit=101", 400, "PAGE_TOO_LARGE"),
        ("/v2/contacts?after=x", 400, "BAD_USER_INPUT"),
        ("/v2/contacts?emailPrefix=a&phonePrefix=1", 400, "BAD_USER_INPUT"),
        ("/v2/events?after=-1", 400, "BAD_USER_INPUT"),
        ("/v2/events/stream?after=999999999", 400, "VERSION_UNKNOWN"),
        ("/v2/nowhere", 404, "NOT_FOUND"),
    ],
)
async def test_reads_that_are_refused(api: httpx2.AsyncClient, url: str, status: int, code: str) -> None:
    await identified(api, **ADA)
    response = await api.get(url)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text


async def test_methods(api: httpx2.AsyncClient) -> None:
    for path, allowed in (
        ("/v2/identify", "OPTIONS, POST"),
        ("/v2/identify/batch", "OPTIONS, POST"),
        ("/v2/families", "GET, HEAD, OPTIONS"),
        ("/v2/families/1", "GET, HEAD, OPTIONS"),
        ("/v2/contacts/1", "GET, HEAD, OPTIONS"),
        ("/v2/contacts", "GET, HEAD, OPTIONS"),
        ("/v2/events", "GET, HEAD, OPTIONS"),
        ("/v2/events/stream", "GET, HEAD, OPTIONS"),
    ):
        options = await api.options(path)
        assert (options.status_code, options.content) == (204, b"")
        assert options.headers["allow"] == allowed
        refused = await api.request("DELETE", path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)


async def test_contacts_are_listed_page_by_page(api: httpx2.AsyncClient) -> None:
    rows = [{"email": f"user{number}@example.com", "phoneNumber": f"+1415555010{number}"} for number in range(5)]
    await api.post("/v2/identify/batch", json={"rows": [*rows, {"email": "other@example.com"}]})
    for query, expected in (
        ("emailPrefix=USER", [row["email"] for row in rows]),
        ("phonePrefix=%2B1415", [row["email"] for row in rows]),
        ("", [*(row["email"] for row in rows), "other@example.com"]),
    ):
        found, after = [], ""
        while True:
            page = (await api.get(f"/v2/contacts?{query}&limit=2{after}")).json()
            found += page["contacts"]
            if page["next"] is None:
                break
            after = f"&after={page['next'].replace('+', '%2B')}"
        assert [one["email"] for one in found] == expected
        assert found[0]["linkPrecedence"] == "PRIMARY"


async def test_events_are_listed_without_a_gap(api: httpx2.AsyncClient) -> None:
    rows = [{"email": f"user{number}@example.com"} for number in range(7)]
    answer = await api.post("/v2/identify/batch", json={"rows": rows})
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"events": [None], "next": 0}
    while page["events"]:
        page = (await api.get(f"/v2/events?limit=3&after={page['next']}")).json()
        found += page["events"]
    assert page["next"] == found[-1]["sequence"]
    assert [one["sequence"] for one in found] == [one["version"] for one in answer.json()["results"]]
    assert found[0] == {
        "id": encode_id(EVENT, found[0]["sequence"]),
        "sequence": found[0]["sequence"],
        "at": found[0]["at"],
        "kind": "CONTACT_CREATED",
        "familyId": encode_id(FAMILY, 1),
        "contactId": encode_id(CONTACT, 1),
        "otherFamilyId": None,
        "reason": None,
        "requestId": answer.headers["x-request-id"],
    }


class Stream:
    """Events of a stream that is read to the end."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def __aiter__(self) -> AsyncIterator[dict[str, str]]:
        event: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                if event:
                    yield event
                event = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                event[name] = value

    async def next(self) -> dict[str, str]:
        async with asyncio.timeout(10):
            return await anext(aiter(self))


async def test_a_stream_goes_on_behind_the_last_event(api: httpx2.AsyncClient, server: ApiServer) -> None:
    await identified(api, **ADA)
    async with api.stream("GET", "/v2/events/stream") as response:
        assert response.headers["content-type"] == "text/event-stream"
        assert "content-encoding" not in response.headers
        stream = Stream(response)
        begin = await stream.next()
        assert "data" not in begin
        second = await identified(api, **BOB)
        told = await stream.next()
        assert int(told["id"]) == second["version"] == json.loads(told["data"])["sequence"]
    third = await identified(api, email="cid@example.com")
    for headers, query in (
        ({"Last-Event-ID": begin["id"]}, ""),
        ({}, f"?after={begin['id']}"),
        ({"Last-Event-ID": begin["id"]}, f"?after={third['version']}"),
    ):
        async with api.stream("GET", f"/v2/events/stream{query}", headers=headers) as response:
            stream = Stream(response)
            assert await stream.next() == {"id": begin["id"]}
            ids = [int((await stream.next())["id"]) for _ in range(2)]
            assert ids == [second["version"], third["version"]]
    head = await api.head("/v2/events/stream")
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")
