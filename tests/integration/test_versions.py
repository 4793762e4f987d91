"""The versions of REST: what each serves, what the paths without a version announce, and who is counted."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from nexus_graph.api.http.cors import EXPOSED_HEADERS
from nexus_graph.api.rest.versions import UNVERSIONED, table
from nexus_graph.app import create_app
from nexus_graph.config import API_VERSIONS, Settings
from nexus_graph.door.permissions import Role
from tests.stage.callers import calling, guarded_api, key_for
from tests.stage.running import both_ways, running_api

ADA = {"email": "ada@example.com", "phoneNumber": "123456"}
ANNOUNCED = {"deprecation": "@1796083200", "sunset": "Wed, 01 Dec 2027 00:00:00 GMT"}


@asynccontextmanager
async def api_of(settings: Settings, **more: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        running_api(settings.model_copy(update=more)) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=20) as client,
    ):
        yield client


def served(*versions: str) -> set[str]:
    return {str(getattr(route, "path", "")) for route in create_app(Settings(api_versions=versions)).routes}


def test_a_process_serves_the_versions_that_it_is_told_to() -> None:
    everything = served(*API_VERSIONS)
    for version in API_VERSIONS:
        others = tuple(f"/{other}/" for other in API_VERSIONS if other != version)
        alone = served(version)
        assert {path for path in everything if path.startswith(f"/{version}/")} <= alone
        assert not [path for path in alone if path.startswith(others)]
        assert ("/identify" in alone) == (version == "v1")
        assert {"/health", "/livez", "/readyz", "/metrics", "/graphql"} <= alone


def test_the_docs_say_what_each_version_holds(project: Path) -> None:
    rows = re.findall(r"^\| `(\w+) (/\S+)` \|(.*)\|$", (project / "docs" / "rest.md").read_text("utf-8"), re.MULTILINE)
    told = {(method, path): [cell.strip() for cell in cells.split("|")] for method, path, cells in rows}
    held = {version: {(one.method, one.path) for one in routes} for version, routes in table(Settings()).items()}
    assert set(told) == set().union(*held.values())
    for route, (*cells, unversioned) in told.items():
        assert [cell == "yes" for cell in cells] == [route in held[version] for version in API_VERSIONS], route
        assert unversioned.partition(",")[0].removeprefix("as ") == UNVERSIONED.get(route[1], ""), route


@pytest.mark.parametrize("given", ["v3", "v1,v9", "1", "[]"])
def test_unknown_versions_are_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("NEXUS_API_VERSIONS", given)
    with pytest.raises(ValidationError, match="must name versions of"):
        Settings()


def test_versions_keep_their_order_and_stand_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_API_VERSIONS", "v2, v1,v2")
    assert Settings().api_versions == ("v1", "v2")


def test_nothing_ends_before_it_is_deprecated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_UNVERSIONED_SUNSET_ON", "2026-11-30")
    with pytest.raises(ValidationError, match="must not be before NEXUS_UNVERSIONED_DEPRECATED_ON"):
        Settings()


@both_ways
async def test_an_unversioned_path_answers_as_v1_and_announces_its_end(api: httpx2.AsyncClient) -> None:
    await api.post("/v1/identify", json=ADA)
    for body, status in ((ADA, 200), ({"email": "nobody"}, 400), ({}, 400)):
        given = {"x-request-id": "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0"}
        plain = await api.post("/v1/identify", json=body, headers=given)
        old = await api.post("/identify", json=body, headers=given)
        assert (old.status_code, old.content) == (plain.status_code, plain.content) == (status, old.content)
        assert {name: old.headers[name] for name in ANNOUNCED} == ANNOUNCED
        assert re.fullmatch(r'</v[12.]+/identify>; rel="successor-version"', old.headers["link"])
        assert not {"deprecation", "sunset", "link"} & set(plain.headers)
    successor = (await api.get("/health")).headers["link"]
    assert successor == '</v2/health>; rel="successor-version"'
    assert (await api.get("/v2/health")).status_code == 200


async def test_the_dates_are_the_operators(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_UNVERSIONED_DEPRECATED_ON", "2026-01-31")
    monkeypatch.setenv("NEXUS_UNVERSIONED_SUNSET_ON", "2026-02-28")
    told = Settings()
    dates = {name: getattr(told, name) for name in ("unversioned_deprecated_on", "unversioned_sunset_on")}
    async with api_of(settings, api_versions=("v1",), **dates) as api:
        old = await api.post("/identify", json=ADA)
        assert old.headers["deprecation"] == "@1769817600"
        assert old.headers["sunset"] == "Sat, 28 Feb 2026 00:00:00 GMT"
        assert old.headers["link"] == '</v1/identify>; rel="successor-version"'
        assert (await api.post("/v2/identify", json=ADA)).status_code == 404


def test_pages_of_other_origins_may_read_the_announcement() -> None:
    assert {"Deprecation", "Sunset", "Link"} <= set(EXPOSED_HEADERS)


@both_ways
async def test_v1_1_says_what_identify_did(settings: Settings) -> None:
    async with api_of(settings, family_limit_contacts=2) as api:
        first = (await api.post("/v1.1/identify", json=ADA)).json()
        contact = (await api.post("/v1/identify", json=ADA)).json()["contact"]
        assert first == {"contact": contact, "outcome": "CREATED", "version": 1, "reason": None}
        linked = (await api.post("/v1.1/identify", json={**ADA, "email": "lovelace@example.com"})).json()
        assert (linked["outcome"], linked["reason"]) == ("LINKED", None)
        assert linked["version"] > first["version"]
        assert (await api.post("/v1.1/identify", json=ADA)).json() == {**linked, "outcome": "MATCHED"}
        await api.post("/v1.1/identify", json={"email": "bob@example.com", "phoneNumber": "777777"})
        refused = await api.post("/v1.1/identify", json={"email": "bob@example.com", "phoneNumber": "123456"})
        assert refused.json()["outcome"] == refused.headers["nexus-outcome"] == "REFUSED"
        assert refused.json()["reason"]


async def test_calls_are_counted_by_version_and_client(settings: Settings) -> None:
    service, both = await key_for(settings, Role.SERVICE), await key_for(settings, Role.SERVICE, Role.READER)
    reader, operator = await key_for(settings, Role.READER), await key_for(settings, Role.OPERATOR)
    async with guarded_api(settings) as server, calling(server, operator) as operators:

        async def counts() -> dict[tuple[str, str], float]:
            found = re.findall(
                r'^nexus_rest_calls_total\{client="([^"]+)",version="([^"]+)"\} (\S+)',
                (await operators.get("/metrics")).text,
                re.MULTILINE,
            )
            return {(version, client): float(count) for client, version, count in found}

        before = await counts()
        for key, path in (
            (service, "/v1/identify"),
            (service, "/v1.1/identify"),
            (both, "/v1/identify"),
            (service, "/identify"),
        ):
            async with calling(server, key) as client:
                assert (await client.post(path, json=ADA)).status_code == 200
        async with calling(server, reader) as client:
            assert (await client.post("/v1/identify", json=ADA)).status_code == 403  # not let in
        async with calling(server, None) as client:
            assert (await client.post("/v1/identify", json=ADA)).status_code == 401
            assert (await client.get("/v2/health")).status_code == 200
        after = await counts()
        assert {
            label: count - before.get(label, 0) for label, count in after.items() if count != before.get(label)
        } == {
            ("v1", "key/service"): 1,
            ("v1.1", "key/service"): 1,
            ("v1", "key/several"): 1,
            ("unversioned", "key/service"): 1,
            ("v2", "anonymous"): 1,
        }


@both_ways
async def test_the_family_that_a_service_identified_is_on_the_trail(settings: Settings, pool: Any) -> None:
    service = await key_for(settings, Role.SERVICE)
    async with guarded_api(settings) as server, calling(server, service) as client:
        for path in ("/v1/identify", "/v1.1/identify", "/identify"):
            assert (await client.post(path, json=ADA)).status_code == 200
    noted = await pool.fetch("SELECT outcome, family_ids FROM audit_log WHERE what = 'identify' ORDER BY seq")
    assert [tuple(row) for row in noted] == [("changed", [1]), ("answered", [1]), ("answered", [1])]
