"""What browsers meet: pages of other origins, the front page, and paths that end in a slash."""

import httpx2
import pytest

from nexus_graph.config import Settings
from tests.integration.test_direct import ADA, answered, connected, posted
from tests.stage.running import ApiServer, both_ways, running_api

pytestmark = both_ways

APP = "https://app.example"
PREFLIGHT = {"origin": APP, "access-control-request-method": "POST"}
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
BEHIND_TLS = {"Host": "api.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}


async def test_pages_of_other_origins_may_call_where_they_are_let(settings: Settings) -> None:
    asked = {**PREFLIGHT, "access-control-request-headers": "content-type,x-request-id"}
    open_to = settings.model_copy(update={"cors_origins": (APP,)})
    async with running_api(open_to) as server, httpx2.AsyncClient(base_url=server.url) as api:
        answer = await api.options("/graphql", headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == APP
        told = await api.post("/graphql", json={"query": "{__typename}"}, headers={"origin": APP})
        assert told.headers["access-control-allow-origin"] == APP
        told = await api.post("/identify", json={**ADA, "phone": "1"}, headers={"origin": APP})
        exposed = told.headers["access-control-expose-headers"].lower().split(", ")
        told_by_us = {"nexus-outcome", "nexus-ignored", "traceparent", "x-request-id", "retry-after", "etag"}
        assert told_by_us | {"deprecation", "sunset", "link", "idempotent-replayed"} == {*exposed}
        other = await api.options("/graphql", headers={**asked, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        assert (other.status_code, other.text) == (400, "NEXUS_CORS_ORIGINS does not allow this origin")
        other = await api.options("/graphql", headers={**asked, "access-control-request-method": "DELETE"})
        assert (other.status_code, other.text) == (400, "the methods are GET, HEAD, POST")
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url) as api:
        assert "access-control-allow-origin" not in (await api.options("/graphql", headers=asked)).headers


async def test_preflights_allow_the_headers_that_clients_send(settings: Settings) -> None:
    more = settings.model_copy(update={"cors_origins": (APP,), "cors_headers": ("X-Tenant",)})
    async with running_api(more) as server, httpx2.AsyncClient(base_url=server.url) as api:

        async def status(*headers: str) -> int:
            asked = {**PREFLIGHT, "access-control-request-headers": ",".join(headers)}
            return (await api.options("/graphql", headers=asked)).status_code

        for headers in (
            ("apollographql-client-name", "apollographql-client-version", "content-type"),
            ("apollo-require-preflight", "authorization", "x-apollo-operation-name"),
            ("baggage", "content-type", "sentry-trace"),
            ("traceparent", "tracestate"),
            ("X-API-Key", " If-None-Match"),
            ("x-tenant",),
        ):
            assert await status(*headers) == 200, headers
        asked = {**PREFLIGHT, "access-control-request-headers": "content-type,x-other"}
        refused = await api.options("/graphql", headers=asked)
        assert refused.status_code == 400
        assert "NEXUS_CORS_HEADERS" in refused.text
    everything = more.model_copy(update={"cors_headers": ("*",)})
    async with running_api(everything) as server, httpx2.AsyncClient(base_url=server.url) as api:
        assert await status("x-other") == 200


@pytest.mark.parametrize("headers", [{}, BEHIND_TLS])
async def test_a_slash_at_the_end_is_left_away(server: ApiServer, headers: dict[str, str]) -> None:
    async with httpx2.AsyncClient(base_url=server.url, follow_redirects=False) as api:
        for path in ("/health", "/livez", "/readyz", "/metrics"):
            plain, slashed = await api.get(path, headers=headers), await api.get(f"{path}/", headers=headers)
            assert (slashed.status_code, slashed.headers.keys()) == (200, plain.headers.keys())
        for path, asked in (("/identify", ADA), ("/graphql", {"query": "{ __typename }"})):
            assert (await api.post(f"{path}/", json=asked, headers=headers)).status_code == 200
            assert (await api.post(f"{path}/?a=1", json=asked, headers=headers)).status_code == 200
        assert (await api.get("/graphql/", headers={**headers, "Accept": BROWSER})).text.startswith("<!")
        assert (await api.get("/identify/", headers=headers)).status_code == 405
        for path in ("/nowhere/", "/health//", "/graphql/assets/"):
            assert (await api.get(path, headers=headers)).status_code == 404
    async with connected(server) as (reader, writer):
        writer.write(
            posted(ADA, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1")
            + posted(ADA, "X-Request-ID: 0f1e2d3c4b5a49788796a5b4c3d2e1f1", path="/identify/")
        )
        assert await answered(reader) == await answered(reader)


@pytest.mark.parametrize("headers", [{}, BEHIND_TLS])
async def test_the_front_leads_browsers_to_graphiql_and_tells_others_what_is_where(
    api: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    led = await api.get("/", headers={**headers, "Accept": BROWSER})
    assert (led.status_code, led.headers["location"], led.headers["vary"]) == (302, "/graphql", "accept")
    for accept in ("*/*", "application/json"):
        told = await api.get("/", headers={**headers, "Accept": accept})
        assert (told.status_code, told.headers["content-type"]) == (200, "application/json")
        for path in told.json()["paths"]:
            assert (await api.get(path, headers=headers)).status_code != 404
    assert (await api.head("/")).headers["content-length"] == told.headers["content-length"]
    assert (await api.post("/")).status_code == 405
