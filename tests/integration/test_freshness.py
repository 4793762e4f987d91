"""atLeast: never an older family, and no waiting for a version that will not come; ids that were merged away."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY

from nexus_graph.api.cursors import CONTACT, EVENT, FAMILY, encode_id
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable, VersionUnknown
from nexus_graph.identity.opening import Identity, open_identity
from nexus_graph.model import FamilyKey, Source
from nexus_graph.store.database import Pool
from tests.stage.graphing import identify, relaying
from tests.stage.running import running_api

FAR = 2**53 - 1
ADA, BOB = FamilyKey("email", "ada@x.example"), FamilyKey("email", "bob@x.example")


@pytest.fixture
async def behind(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """An API whose graph hears of nothing: no relay is at work."""
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url, timeout=30) as api:
        yield api


async def ask(api: httpx2.AsyncClient, query: str, **variables: object) -> dict[str, Any]:
    answer = await api.post("/graphql", json={"query": query, "variables": variables})
    told: dict[str, Any] = answer.json()
    return told


async def newest(pool: Pool) -> int:
    version: int = await pool.fetchval("SELECT max(seq) FROM identity_events")
    return version


def walks() -> float:
    return REGISTRY.get_sample_value("nexus_batch_size_count", {"queue": "graph"}) or 0


@pytest.mark.parametrize("cache", ["off", "process", "both"])
@pytest.mark.parametrize(
    "field",
    [
        'contactFamily(by: {email: "ada@x.example"}, atLeast: $v) { id }',
        'contactFamily(by: {email: "ada@x.example"}, atLeast: $v, source: RECORD) { id }',
        'contactFamily(by: {email: "ada@x.example"}, atLeast: $v, source: GRAPH) { id }',
        'contactFamily(by: {email: "nobody@x.example"}, atLeast: $v) { id }',
        'contact(id: "1", atLeast: $v) { id }',
        f'node(id: "{encode_id(CONTACT, 1)}", atLeast: $v) {{ id }}',
        f'node(id: "{encode_id(FAMILY, 1)}", atLeast: $v) {{ id }}',
        f'node(id: "{encode_id(EVENT, 1)}", atLeast: $v) {{ id }}',
    ],
)
async def test_a_version_past_every_event_is_refused_at_once(
    settings: Settings, pool: Pool, field: str, cache: str
) -> None:
    await identify(pool, ("ada@x.example", "111"))
    before = walks()
    async with (
        running_api(settings.model_copy(update={"cache": cache})) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=30) as api,
    ):
        told = await ask(api, f"query ($v: BigInt) {{ found: {field} }}", v=FAR)
    assert told["data"] == {"found": None}
    (error,) = told["errors"]
    assert error["extensions"] == {
        "code": "VERSION_UNKNOWN",
        "newestVersion": await newest(pool),
        "fields": ["atLeast"],
    }
    assert walks() <= before + 1, "the graph is not polled"


@pytest.mark.parametrize("source", [None, Source.RECORD, Source.GRAPH])
async def test_after_a_restore_a_version_of_before_is_unknown(
    settings: Settings, pool: Pool, source: Source | None
) -> None:
    async with open_identity(settings) as identity:
        await identify(pool, ("ada@x.example", "111"), ("ada@x.example", "222"))
        version = await newest(pool)
        assert await identity.families.family(ADA, at_least=version, source=Source.RECORD) is not None
        await pool.execute("DELETE FROM identity_events WHERE seq = $1", version)
        with pytest.raises(VersionUnknown):
            await identity.families.family(ADA, at_least=version, source=source)


async def test_another_familys_version_is_answered_by_the_record_at_once(settings: Settings, pool: Pool) -> None:
    async with relaying(settings) as relay, open_identity(settings) as identity:
        await identify(pool, ("ada@x.example", "111"))
        await relay.drained()
        await identify(pool, ("bob@x.example", "222"))
        await relay.drained()
        before = walks()
        version = await newest(pool)
        ada = await identity.families.family(ADA, at_least=version)
        assert ada is not None
        assert (ada.source, ada.emails) == (Source.RECORD, ("ada@x.example",))
        assert ada.version < version
        assert walks() == before + 1
        by_graph = await identity.families.family(ADA, at_least=version, source=Source.GRAPH)
        assert by_graph is not None
        assert (by_graph.source, by_graph.contacts) == (Source.GRAPH, ada.contacts)
        assert await identity.families.family(FamilyKey("email", "nobody@x.example"), at_least=version) is None


async def test_a_graph_that_is_behind_never_answers_who_demands_more(settings: Settings, pool: Pool) -> None:
    async with open_identity(settings) as identity:
        async with relaying(settings) as relay:
            await identify(pool, ("ada@x.example", "111"), ("bob@x.example", "222"))
            await relay.drained()
        await identify(pool, ("bob@x.example", "111"))  # they are one now, and the graph has not heard of it
        older = await identity.families.family(BOB)
        assert older is not None
        assert older.source is Source.GRAPH
        for version in range(older.version, await newest(pool) + 1):
            for key in (ADA, BOB, FamilyKey("contact", 2)):
                family = await identity.families.family(key, at_least=version)
                assert family is not None
                assert family.version >= version or family.source is Source.RECORD
        with pytest.raises(Unavailable):
            await identity.families.family(BOB, at_least=await newest(pool), source=Source.GRAPH)


async def test_an_id_that_was_merged_away_names_the_survivor_under_that_id(
    settings: Settings, pool: Pool, behind: httpx2.AsyncClient
) -> None:
    async with relaying(settings) as relay:
        await identify(pool, ("ada@x.example", "111"), ("bob@x.example", "222"))
        await relay.drained()
    query = """query ($ids: [ID!]!, $id: ID!, $v: BigInt) {
        node(id: $id, atLeast: $v) { ...All }
        nodes(ids: $ids, atLeast: $v) { ...All }
    }
    fragment All on Node { __typename id ... on ContactFamily {
        version emails mergedInto { id emails version } primaryContact { databaseId family { id emails } }
    } ... on Contact { databaseId linkPrecedence family { id emails } } }"""
    old, own, contact = encode_id(FAMILY, 2), encode_id(FAMILY, 1), encode_id(CONTACT, 2)
    for turn in range(3):  # by graphql-core, then by its plan
        told = await ask(behind, query, ids=[old, contact, own], id=old)
        assert told["data"]["node"]["emails"] == ["bob@x.example"], turn
        assert told["data"]["node"]["mergedInto"] is None
    version = (
        await ask(
            behind,
            'mutation { identify(input: {email: "bob@x.example", phoneNumber: "111"}) { ...on IdentifySuccess '
            "{ version family { id primaryContact { family { id } } } } } }",
        )
    )["data"]["identify"]
    assert version["family"] == {"id": own, "primaryContact": {"family": {"id": own}}}
    for turn in range(3):
        told = (await ask(behind, query, ids=[old, contact, own, old], id=old, v=version["version"]))["data"]
        assert [one["id"] for one in told["nodes"]] == [old, contact, own, old], turn
        assert told["node"] == told["nodes"][0] == told["nodes"][3]
        both = ["ada@x.example", "bob@x.example"]
        assert (told["node"]["emails"], told["node"]["version"]) == (both, version["version"])
        assert told["node"]["mergedInto"] == {"id": own, "emails": both, "version": version["version"]}
        assert told["node"]["primaryContact"] == {"databaseId": 1, "family": {"id": own, "emails": both}}
        assert told["nodes"][1]["linkPrecedence"] == "SECONDARY"
        assert told["nodes"][1]["family"] == {"id": own, "emails": both}
        assert (told["nodes"][2]["mergedInto"], told["nodes"][2]["emails"]) == (None, both)


async def test_the_names_of_a_family_are_told_apart_where_it_is_remembered(settings: Settings, pool: Pool) -> None:
    """A family at hand is written out once for all who ask the same of it: but not under another's id."""
    await identify(pool, ("ada@x.example", "111"), ("bob@x.example", "222"), ("bob@x.example", "111"))
    async with (
        running_api(settings.model_copy(update={"cache": "process", "cache_process_seconds": 60.0})) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=30) as api,
    ):
        query = "query ($id: ID!) { node(id: $id) { id ... on ContactFamily { emails } } }"
        for _ in range(3):
            for number in (1, 2):
                told = await ask(api, query, id=encode_id(FAMILY, number))
                assert told["data"]["node"]["id"] == encode_id(FAMILY, number)


async def test_events_are_nodes(pool: Pool, behind: httpx2.AsyncClient) -> None:
    await identify(pool, ("ada@x.example", "111"), ("ada@x.example", "222"))
    listed = (await ask(behind, "{ identityEvents { nodes { __typename id sequence kind contactId } } }"))["data"]
    events = listed["identityEvents"]["nodes"]
    assert len(events) == 2
    query = """query ($ids: [ID!]!, $v: BigInt) { nodes(ids: $ids, atLeast: $v) {
        __typename id ... on IdentityEvent { sequence kind contactId }
    } }"""
    ids = [event["id"] for event in events]
    for _ in range(2):
        told = await ask(behind, query, ids=[*reversed(ids), encode_id(EVENT, 10**9)], v=events[-1]["sequence"])
        assert told["data"]["nodes"] == [*reversed(events), None]
    assert (await ask(behind, query, ids=[encode_id(EVENT, 2**63 - 1)]))["data"]["nodes"] == [None]
    for wrong in ("SWRlbnRpdHlFdmVudDow", "SWRlbnRpdHlFdmVudDp4"):  # IdentityEvent:0, IdentityEvent:x
        (error,) = (await ask(behind, query, ids=[wrong]))["errors"]
        assert error["extensions"]["code"] == "BAD_USER_INPUT"
    by_event = "query ($id: ID!) { contactFamily(by: {contactId: $id}) { id } }"
    (error,) = (await ask(behind, by_event, id=ids[0]))["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"


async def test_readers_of_one_moment_share_the_look_at_the_newest_event(identity: Identity, pool: Pool) -> None:
    await identify(pool, ("ada@x.example", "111"))
    await identity.families.reach(await newest(pool))
    with pytest.raises(VersionUnknown) as refused:
        await identity.families.reach(await newest(pool) + 1)
    assert refused.value.newest == await newest(pool)
