"""Queries by GET: what is served, what a cache may keep of it, and what a page of another site cannot do with it."""

import asyncio
import json
from urllib.parse import urlencode

import httpx2
import pytest

from nexus_graph.config import Settings
from tests.stage.running import running_api

FAMILY = "query F($by: FamilyLookup!) { contactFamily(by: $by) { emails version } }"
WRITES = 'mutation { identify(input: {email: "ada@example.com"}) { __typename } }'
EVENTS = "subscription { identityEvents(after: 0) { sequence } }"
ADA = {"email": "ada@example.com", "phoneNumber": "+15550001111"}
BY_PHONE = {"query": FAMILY, "variables": json.dumps({"by": {"phoneNumber": ADA["phoneNumber"]}})}
STANDARD = {"accept": "application/graphql-response+json"}
URQL = {
    "accept": "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, "
    "multipart/mixed"
}


@pytest.fixture
async def ada(api: httpx2.AsyncClient) -> httpx2.Response:
    """Somebody to ask for."""
    return await api.post("/identify", json=ADA)


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("headers", [{}, STANDARD, URQL])
async def test_a_query_is_answered_as_by_post(api: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    posted = {**BY_PHONE, "variables": json.loads(BY_PHONE["variables"])}
    for more in ({}, {"operationName": ""}, {"operationName": "F", "extensions": "[]"}, {"extensions": "", "v": "1"}):
        got = await api.get("/graphql", params={**BY_PHONE, **more}, headers=headers)
        asked = await api.post("/graphql", json=posted, headers=headers)
        assert (got.status_code, got.text) == (200, asked.text)
        assert got.headers["content-type"] == asked.headers["content-type"]
        assert asked.headers["cache-control"] == "no-store"
    head = await api.head("/graphql", params=BY_PHONE, headers=headers)
    assert (head.status_code, head.text, head.headers["etag"]) == (200, "", got.headers["etag"])


async def test_what_a_client_has_is_not_sent_again(api: httpx2.AsyncClient, ada: httpx2.Response) -> None:
    assert ada.headers["cache-control"] == "no-store"
    first = await api.get("/graphql", params=BY_PHONE)
    assert first.headers["cache-control"] == "private, no-cache"
    assert first.headers["vary"] == "accept"
    tag = first.headers["etag"]
    assert tag.startswith('"')
    for had in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await api.get("/graphql", params=BY_PHONE, headers={"if-none-match": had})
        assert (again.status_code, again.content) == (304, b"")
        assert (again.headers["etag"], again.headers["cache-control"]) == (tag, "private, no-cache")
        assert "content-length" not in again.headers
    assert (await api.get("/graphql", params=BY_PHONE, headers={"if-none-match": '"other"'})).status_code == 200
    other_type = await api.get("/graphql", params=BY_PHONE, headers={**STANDARD, "if-none-match": tag})
    assert other_type.status_code == 200
    await api.post("/identify", json={**ADA, "email": "lovelace@example.com"})
    async with asyncio.timeout(30):
        while (
            changed := await api.get("/graphql", params=BY_PHONE, headers={"if-none-match": tag})
        ).status_code == 304:
            pass
    assert changed.headers["etag"] != tag
    assert changed.json()["data"]["contactFamily"]["version"] == 2


async def test_a_setting_says_what_caches_may_do(settings: Settings) -> None:
    shared = settings.model_copy(update={"graphql_cache_control": "public, max-age=5"})
    async with running_api(shared) as server, httpx2.AsyncClient(base_url=server.url) as api:
        assert (await api.get("/graphql?query={__typename}")).headers["cache-control"] == "public, max-age=5"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("query={nothing}", 422, "GRAPHQL_VALIDATION_FAILED"),
        ("", 422, "BAD_REQUEST"),
        ("query=%ED%A0%80", 400, "GRAPHQL_PARSE_FAILED"),
        ("query=%FF", 400, "GRAPHQL_PARSE_FAILED"),
        ("query={__typename}&query={__typename}", 400, "BAD_REQUEST"),
        ("query={__typename}&variables={", 400, "BAD_REQUEST"),
        ("query={__typename}&variables=1", 400, "BAD_REQUEST"),
        ('query={__typename}&variables={"a":1,"a":2}', 400, "BAD_REQUEST"),
        ('query={__typename}&variables={},"operationName":"A"', 400, "BAD_REQUEST"),
        ("query={__typename}&operationName=A", 422, "OPERATION_RESOLUTION_FAILURE"),
        ('query={contactFamily(by:{phoneNumber:"+15550001111"}){id}}', 400, "BAD_REQUEST"),
        (urlencode(BY_PHONE).replace("%2B", "+"), 400, "BAD_REQUEST"),
        (urlencode({"query": EVENTS}), 422, "SUBSCRIPTION_NOT_SERVED_HERE"),
        (urlencode({"query": WRITES}), 405, "METHOD_NOT_ALLOWED"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_answered_is_refused_and_not_kept(
    api: httpx2.AsyncClient, query: str, status: int, code: str
) -> None:
    for method in ("GET", "HEAD"):
        answer = await api.request(method, f"/graphql?{query}", headers=STANDARD)
        assert answer.status_code == status
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
        if method == "GET":
            assert answer.json()["errors"][0]["extensions"]["code"] == code
        if status == 405:
            assert answer.headers["allow"] == "POST"


async def test_nothing_is_written_by_get(api: httpx2.AsyncClient) -> None:
    for headers in ({}, STANDARD, {"accept": "text/event-stream"}):
        assert (await api.get("/graphql", params={"query": WRITES}, headers=headers)).status_code == 405
    sent = await api.post("/identify", json={"email": "bob@example.com"})
    assert sent.json()["contact"]["primaryContactId"] == 1, "the first that was ever written"


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("headers", [URQL, {"accept": "text/event-stream"}])
async def test_a_subscription_is_streamed(api: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    async with api.stream("GET", "/graphql", params={"query": EVENTS}, headers=headers) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                assert json.loads(line[6:])["data"] == {"identityEvents": {"sequence": 1}}
                break
    head = await api.head("/graphql", params={"query": EVENTS}, headers=headers)
    assert 400 <= head.status_code < 500, "a stream without a body has no end"


async def test_a_page_of_another_site_cannot_embed_or_write(api: httpx2.AsyncClient) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        embeds = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors", "accept": "image/*,*/*;q=0.8"}
        assert (await api.get("/graphql?query={__typename}", headers=embeds)).status_code == status
        asks = {"sec-fetch-site": site, "sec-fetch-mode": "cors"}
        assert (await api.get("/graphql?query={__typename}", headers=asks)).status_code == 200
        wrote = await api.post("/identify", content=json.dumps(ADA), headers={**embeds, "content-type": ""})
        assert wrote.status_code == 415
        untyped = api.build_request("POST", "/identify", content=json.dumps(ADA), headers=embeds)
        assert "content-type" not in untyped.headers
        assert (await api.send(untyped)).status_code == 415


async def test_a_get_that_is_not_served_names_the_setting(settings: Settings) -> None:
    strict = settings.model_copy(update={"graphql_get": False})
    async with running_api(strict) as server, httpx2.AsyncClient(base_url=server.url) as api:
        refused = await api.get("/graphql?query={__typename}")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
        assert "NEXUS_GRAPHQL_GET" in refused.json()["errors"][0]["message"]
        assert "preferGetMethod" in refused.json()["errors"][0]["message"]


async def test_a_url_has_the_limit_of_a_body(settings: Settings) -> None:
    small = settings.model_copy(update={"body_max_bytes": 1_024})
    async with running_api(small) as server, httpx2.AsyncClient(base_url=server.url) as api:
        for length, status in ((500, 200), (1_100, 400)):
            assert (await api.get(f"/graphql?query={{__typename}}&x={'x' * length}")).status_code == status


async def test_graphiql_is_kept_until_it_changes(api: httpx2.AsyncClient) -> None:
    page = await api.get("/graphql", headers={"accept": "text/html"})
    assert page.headers["cache-control"] == "no-cache"
    again = await api.get("/graphql", headers={"accept": "text/html", "if-none-match": page.headers["etag"]})
    assert (again.status_code, again.headers["content-security-policy"]) == (
        304,
        page.headers["content-security-policy"],
    )
