"""A service reads by id what it identified. All else is to it as if it did not exist, on every transport."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nexus_graph.api.cursors import encode_id
from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Pool
from tests.stage.callers import asked, calling, guarded_api, key_for, known
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.running import ApiServer, running_api
from tests.stage.transports import ONE_ANSWER, STREAMS, Told, heard, manifest, opened, subscribe, told

NOBODY = 999_999
ADA, BOB = {"email": "ada@example.com"}, {"email": "bob@example.com"}


class Cast(NamedTuple):
    """Two services, and the steward who sees all."""

    server: ApiServer
    first: str
    second: str
    steward: str


def readings(contact: int, sequence: int) -> dict[str, str]:
    """All that a service can ask by an id."""
    contact_id, family_id, event_id = (
        encode_id(name, number)
        for name, number in (("Contact", contact), ("ContactFamily", contact), ("IdentityEvent", sequence))
    )
    family = "{ id emails version primaryContact { id family { id } } identityEvents { totalCount nodes { id } } }"
    on = f"{{ ... on ContactFamily {family} ... on Contact {{ email family {family} }} ... on IdentityEvent {{ at }} }}"
    of = f'_entities(representations: [{{__typename: "Contact", id: "{contact_id}"}}])'
    return {
        "family": f'{{ contactFamily(by: {{contactId: "{contact}"}}) {family} }}',
        "family of the record": f'{{ contactFamily(by: {{contactId: "{contact}"}}, source: RECORD) {family} }}',
        "contact": f'{{ contact(id: "{contact_id}") {{ email createdAt }} }}',
        "node of a contact": f'{{ node(id: "{contact_id}") {on} }}',
        "node of a family": f'{{ node(id: "{family_id}") {on} }}',
        "node of an event": f'{{ node(id: "{event_id}") {on} }}',
        "nodes": f'{{ nodes(ids: ["{contact_id}", "{family_id}", "{event_id}"]) {on} }}',
        "events": f'{{ identityEvents(contactId: "{contact}") {{ totalCount nodes {{ id }} edges {{ cursor }} }} }}',
        "entity": f"{{ {of} {{ ... on Contact {{ email }} }} }}",
        "changes": f'subscription {{ familyChanged(contactId: "{contact}") {family} }}',
    }


PLACES = {"ada": (1, 1), "bob": (2, 2), "nobody": (NOBODY, NOBODY)}


async def identify(server: ApiServer, key: str, **who: str) -> dict[str, Any]:
    async with calling(server, key) as client:
        contact: dict[str, Any] = (await client.post("/identify", json=who)).raise_for_status().json()["contact"]
        return contact


@pytest.fixture
async def acting(settings: Settings, tmp_path: Path) -> AsyncIterator[Cast]:
    trusted = tmp_path / "trusted.json"
    trusted.write_text(manifest([text for place in PLACES.values() for text in readings(*place).values()]), "utf-8")
    keys = [await key_for(settings, role) for role in (Role.SERVICE, Role.SERVICE, Role.STEWARD)]
    async with guarded_api(settings, trusted_documents=trusted, graphql_federation=True) as server:
        cast = Cast(server, *keys)
        await identify(server, cast.first, **ADA)
        await identify(server, cast.second, **BOB)
        yield cast


def shape(answer: Told) -> tuple[int, Any, list[str]]:
    """What tells one answer from another, besides ids of requests, times and what is left of a limit."""
    found = answer.json
    found.get("extensions", {}).get("cost", {}).pop("throttleStatus", None)
    values = {"date", "x-request-id", "ratelimit", "etag", "content-length"}
    headers = [f"{name}: {'' if name in values else value}" for name, value in sorted(answer.headers.items())]
    return answer.status, found, headers


async def test_out_of_sight_is_as_absent_in_every_reading_on_every_transport(acting: Cast) -> None:
    wrong: list[tuple[str, ...]] = []
    for name in readings(1, 1):
        for way in STREAMS if name == "changes" else (*ONE_ANSWER, *STREAMS):
            ada, bob, nobody = [
                await told(acting.server, way, readings(*place)[name], acting.first) for place in PLACES.values()
            ]
            everyone = await told(acting.server, way, readings(*PLACES["bob"])[name], acting.steward)
            if shape(bob) != shape(nobody) or shape(ada)[1] == shape(nobody)[1] or "data" not in everyone.json:
                wrong.append((name, way, ada.text, bob.text, nobody.text))
            if shape(everyone)[1] == shape(nobody)[1]:
                wrong.append((name, way, "the steward sees nothing"))
    assert wrong == []


async def test_a_service_reads_by_identifier_but_goes_no_further(acting: Cast) -> None:
    """By an email that it knows, it reads the family; ids that it learns so lead nowhere until it identifies them."""
    query = '{ contactFamily(by: {email: "bob@example.com"}) { id primaryContact { databaseId family { id } } } }'
    async with calling(acting.server, acting.first) as client:
        family = (await asked(client, query))["data"]["contactFamily"]
        assert family["primaryContact"] == {"databaseId": 2, "family": None}
        await identify(acting.server, acting.first, **BOB)
        family = (await asked(client, query))["data"]["contactFamily"]
        assert family["primaryContact"]["family"] == {"id": family["id"]}


async def test_lists_and_events_of_all_are_no_services(acting: Cast) -> None:
    for query in (
        "{ contacts { nodes { id } } }",
        "{ identityEvents { nodes { id } } }",
        "subscription { identityEvents(after: 0) { sequence } }",
    ):
        for way in STREAMS if query.startswith("sub") else ("POST", *STREAMS):
            assert (await told(acting.server, way, query, acting.first)).codes == ["FORBIDDEN"]


async def test_a_family_that_was_taken_in_stays_in_sight(acting: Cast) -> None:
    await identify(acting.server, acting.first, phoneNumber="+447900900461", **ADA)
    await identify(acting.server, acting.second, phoneNumber="+12025550143", **BOB)
    await identify(acting.server, acting.steward, phoneNumber="+12025550143", **ADA)
    for key in (acting.first, acting.second):
        for place in ("ada", "bob"):
            answer = await told(acting.server, "POST", readings(*PLACES[place])["family of the record"], key)
            assert answer.json["data"]["contactFamily"]["emails"] == ["ada@example.com", "bob@example.com"]


async def test_what_one_process_let_a_service_see_all_do(acting: Cast, settings: Settings, pool: Pool) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await pool.fetchval("SELECT count(*) FROM sightings") < 2:
            pass
    async with running_api(settings.model_copy(update={"auth": "on"})) as other:
        for key, sees in ((acting.first, "ada"), (acting.second, "bob")):
            for name, place in PLACES.items():
                answer = await told(other, "POST", readings(*place)["contact"], key)
                assert (answer.json["data"]["contact"] is not None) == (name == sees)


async def test_changes_of_a_family_out_of_sight_are_not_felt(acting: Cast) -> None:
    """Three subscriptions: to Bob, who is out of sight, to nobody, and to Ada, whose change comes last."""
    changes = {
        name: f'subscription {{ familyChanged(contactId: "{n}") {{ emails }} }}' for name, (n, _) in PLACES.items()
    }
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
        client = await opened(stack, acting.server, acting.first)
        await heard(client)
        for name, query in changes.items():
            await subscribe(client, query, id=name)
        first = {message["id"]: message["payload"]["data"] for message in [await heard(client) for _ in changes]}
        assert first["bob"] == first["nobody"] == {"familyChanged": None}
        for number in range(3):
            await identify(acting.server, acting.second, phoneNumber=f"+1202555010{number}", **BOB)
        await identify(acting.server, acting.steward, phoneNumber="+447900900461", **ADA)
        assert (await heard(client))["id"] == "ada"
        # Once the service has identified Bob, his changes reach it.
        await identify(acting.server, acting.first, **BOB)
        await identify(acting.server, acting.second, phoneNumber="+12025550199", **BOB)
        message = await heard(client)
        assert (message["id"], message["payload"]["data"]["familyChanged"]["emails"]) == ("bob", ["bob@example.com"])


async def test_a_refusal_says_the_same_of_objects_that_exist_and_that_do_not(acting: Cast, settings: Settings) -> None:
    operator = await key_for(settings, Role.OPERATOR)
    await known(acting.server, operator)
    for name in readings(1, 1):
        for way in STREAMS if name == "changes" else ("POST", *STREAMS):
            answers = [await told(acting.server, way, readings(*place)[name], operator) for place in PLACES.values()]
            assert len({json.dumps(shape(answer)) for answer in answers}) == 1, (name, way)
            assert answers[0].codes == ["FORBIDDEN"]
