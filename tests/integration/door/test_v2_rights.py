"""/v2 behind the door: every role at every route, masks, sight, and what each call costs and leaves."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nexus_graph.config import Settings
from nexus_graph.door.permissions import GRANTS, Permission, Role
from nexus_graph.store.database import Pool
from tests.stage.callers import PLENTY, calling, guarded_api
from tests.stage.running import ApiServer

ADA = {"email": "ada@example.com", "phoneNumber": "+14155550100"}
ROUTES: dict[tuple[str, str], set[Permission]] = {
    ("POST", "/v2/identify"): {Permission.IDENTIFY},
    ("POST", "/v2/identify/batch"): {Permission.IDENTIFY},
    ("GET", "/v2/families?email=ada%40example.com"): {Permission.FAMILY_BY_IDENTIFIER},
    ("GET", "/v2/families/1"): {Permission.READ},
    ("GET", "/v2/contacts/1"): {Permission.READ},
    ("GET", "/v2/contacts"): {Permission.READ_ALL},
    ("GET", "/v2/contacts?emailPrefix=ada"): {Permission.READ_ALL, Permission.UNMASKED},
    ("GET", "/v2/contacts?phonePrefix=%2B1"): {Permission.READ_ALL, Permission.UNMASKED},
    ("GET", "/v2/events"): {Permission.READ_ALL},
    ("GET", "/v2/events/stream?after=0"): {Permission.READ_ALL},
}


@pytest.fixture
async def server(settings: Settings, keys: dict[Role, str]) -> AsyncIterator[ApiServer]:
    async with guarded_api(settings) as server:
        async with calling(server, keys[Role.ADMIN]) as admin:
            (await admin.post("/v2/identify", json=ADA)).raise_for_status()
        yield server


async def status(server: ApiServer, method: str, url: str, key: str | None) -> tuple[int, str]:
    """The status of the answer, and all of its body; of a stream the first event."""
    body = {"rows": [ADA]} if url.endswith("batch") else ADA
    asked = body if method == "POST" else None
    async with calling(server, key) as client, client.stream(method, url, json=asked) as response:
        if response.headers["content-type"] == "text/event-stream":
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    return response.status_code, line
        return response.status_code, (await response.aread()).decode()


@pytest.mark.parametrize("role", [*Role, None])
async def test_every_role_at_every_route(server: ApiServer, keys: dict[Role, str], role: Role | None) -> None:
    for (method, url), needed in ROUTES.items():
        found, text = await status(server, method, url, None if role is None else keys[role])
        if role is None:
            assert found == 401, url
        elif not needed <= GRANTS[role]:
            assert (found, json.loads(text)["code"]) == (403, "FORBIDDEN"), url
        else:
            assert found == 200, (url, text)  # a service has identified the family by now
        if role is None or Permission.UNMASKED not in GRANTS[role]:
            assert "ada@" not in text
            assert "+14155550100" not in text


async def test_readers_see_masks_and_have_tags_of_their_own(server: ApiServer, keys: dict[Role, str]) -> None:
    tags = {}
    for role, view in ((Role.READER, "masked"), (Role.STEWARD, "full")):
        async with calling(server, keys[role]) as client:
            response = await client.get("/v2/families/1")
            tags[role] = response.headers["etag"]
            assert tags[role].endswith(f'-{view}"')
            assert (await client.get("/v2/families/1", headers={"If-None-Match": tags[role]})).status_code == 304
            shown: dict[str, Any] = response.json()
            expected = ("a***@e***.com", "+1******0100") if view == "masked" else (ADA["email"], ADA["phoneNumber"])
            assert (*shown["emails"], *shown["phoneNumbers"]) == expected
            contact = (await client.get("/v2/contacts/1")).json()
            assert (contact["email"], contact["phoneNumber"]) == expected
            (listed,) = (await client.get("/v2/contacts")).json()["contacts"]
            assert listed == contact
    async with calling(server, keys[Role.STEWARD]) as client:
        response = await client.get("/v2/families/1", headers={"If-None-Match": tags[Role.READER]})
        assert response.status_code == 200


async def test_out_of_sight_is_as_absent(server: ApiServer, keys: dict[Role, str]) -> None:
    async with calling(server, keys[Role.SERVICE]) as client:
        for path in ("/v2/families", "/v2/contacts"):
            hidden, absent = [await client.get(f"{path}/{number}") for number in (1, 4711)]
            for answer in (hidden, absent):
                assert answer.status_code == 404
                assert "etag" not in answer.headers
            bodies = [{**answer.json(), "correlationId": ""} for answer in (hidden, absent)]
            assert bodies[0] == bodies[1]
        (await client.post("/v2/identify/batch", json={"rows": [ADA]})).raise_for_status()
        assert (await client.get("/v2/families/1")).status_code == 200


async def test_keys_of_one_caller_are_not_those_of_another(server: ApiServer, keys: dict[Role, str]) -> None:
    answers = []
    for role in (Role.SERVICE, Role.STEWARD):
        async with calling(server, keys[role]) as client:
            answers.append(
                await client.post(
                    "/v2/identify", json={"email": f"{role}@example.com"}, headers={"Idempotency-Key": "k"}
                )
            )
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_each_row_counts(settings: Settings, keys: dict[Role, str], pool: Pool) -> None:
    limits = {**PLENTY, "service": "10/hour"}
    async with guarded_api(settings, rate_limits=limits) as server, calling(server, keys[Role.SERVICE]) as client:
        rows = [{"email": f"user{number}@example.com"} for number in range(4)]
        taken = await client.post("/v2/identify/batch", json={"rows": rows})
        assert taken.status_code == 200
        assert "r=6" in taken.headers["ratelimit"]
        refused = await client.post("/v2/identify/batch", json={"rows": [*rows, *rows]})
        assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
        assert await pool.fetchval("SELECT count(*) FROM contacts") == 4


async def test_calls_are_audited(server: ApiServer, keys: dict[Role, str], pool: Pool, settings: Settings) -> None:
    async with calling(server, keys[Role.STEWARD]) as client:
        await client.post("/v2/identify/batch", json={"rows": [ADA, {"email": "new@example.com"}]})
        await client.get("/v2/families/1")
        await client.get("/v2/families/99")
        await client.get("/v2/events")
    name = f"key:{keys[Role.STEWARD].split('_')[1]}"
    wanted = [("identify", "answered", [1]), ("identify", "changed", [2]), ("family", "answered", [1])]
    wanted += [("family", "absent", []), ("events", "answered", [])]
    found: list[Any] = []
    while len(found) < len(wanted):
        found = await pool.fetch("SELECT what, outcome, family_ids FROM audit_log WHERE who = $1 ORDER BY seq", name)
    assert [tuple(row) for row in found] == wanted


async def test_a_stream_ends_with_its_limit(settings: Settings, keys: dict[Role, str]) -> None:
    limits = {**PLENTY, "reader": "5/hour"}
    async with guarded_api(settings, rate_limits=limits) as server:
        async with calling(server, keys[Role.ADMIN]) as admin:
            rows = [{"email": f"user{number}@example.com"} for number in range(20)]
            await admin.post("/v2/identify/batch", json={"rows": rows})
        async with calling(server, keys[Role.READER]) as client:
            text = (await client.get("/v2/events/stream?after=0")).text
    assert "event: problem\n" in text
    assert "RATE_LIMITED" in text
    assert "retry: " in text
