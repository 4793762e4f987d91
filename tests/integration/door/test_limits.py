"""What a caller may call, counted alike on every transport, with Redis and without it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from nexus_graph.api.cursors import encode_id
from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Pool
from tests.stage.callers import PLENTY, calling, guarded_api, key_for
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.running import ApiServer
from tests.stage.transports import heard, opened, subscribe, told

LIMIT = 20
RATE = f"{LIMIT}/hour"
ADA = {"email": "ada@example.com", "phoneNumber": "123456"}
NAME = "{ __typename }"
EVENTS = "subscription { identityEvents(after: 0) { sequence } }"


@pytest.fixture(params=["redis", "no-redis"])
def counted(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Where calls are counted: in Redis, or in the process, as no Redis is there."""
    nowhere = {"redis_url": SecretStr("redis://127.0.0.1:1")}
    return settings.model_copy(update=nowhere) if request.param == "no-redis" else settings


@asynccontextmanager
async def limited(settings: Settings, **more: Any) -> AsyncIterator[ApiServer]:
    """The API, where stewards and strangers may call LIMIT times."""
    limits = {"rate_limit": RATE, "rate_limits": {**PLENTY, "steward": RATE}}
    async with guarded_api(settings, **limits, **more) as server:
        yield server


async def keys_for(settings: Settings, count: int, role: Role = Role.STEWARD) -> list[str]:
    """So many new keys. They are made before the API starts, which then knows them."""
    return [await key_for(settings, role) for _ in range(count)]


async def left(server: ApiServer, key: str) -> int:
    """What the caller may still call, after this question."""
    async with calling(server, key) as client:
        answer = (await client.post("/graphql", json={"query": "{ rateLimit { remaining } }"})).json()
        remaining: int = answer["data"]["rateLimit"]["remaining"]
        return remaining


async def test_so_many_calls_and_no_more(counted: Settings) -> None:
    key, other = await keys_for(counted, 2)
    async with limited(counted) as server, calling(server, key) as client:
        answers = [await client.post("/identify", json=ADA) for _ in range(LIMIT + 3)]
        assert [answer.status_code for answer in answers] == [200] * LIMIT + [429] * 3
        assert answers[0].headers["ratelimit-policy"] == f'"steward";q={LIMIT};w=3600'
        assert [answer.headers["ratelimit"].partition(";t=")[0] for answer in answers[:LIMIT]] == [
            f'"steward";r={LIMIT - number}' for number in range(1, LIMIT + 1)
        ]
        refused = answers[-1]
        assert refused.headers["content-type"] == "application/problem+json"
        assert (refused.json()["code"], refused.json()["status"]) == ("RATE_LIMITED", 429)
        assert 0 < int(refused.headers["retry-after"]) <= 2 * 3600
        assert refused.headers["ratelimit"].startswith('"steward";r=0;')
        by_graphql = await client.post("/graphql", json={"query": NAME})
        assert by_graphql.status_code == 429
        assert by_graphql.json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
        assert int(by_graphql.headers["retry-after"]) > 0
        async with calling(server, other) as another:
            assert (await another.post("/identify", json=ADA)).status_code == 200


async def test_an_operation_costs_its_root_fields_on_every_transport(counted: Settings) -> None:
    identify = " ".join(f'n{n}: identify(input: {{email: "a{n}@b.example"}}) {{ __typename }}' for n in range(4))
    documents = {
        "{ a: __typename }": 1,
        '{ a: contact(id: "1") { id } b: contact(id: "2") { id } c: rateLimit { limit } }': 3,
        f"mutation {{ {identify} }}": 4,
    }
    keys = iter(await keys_for(counted, 5 * len(documents)))
    async with limited(counted) as server:
        wrong: list[tuple[object, ...]] = []
        for query, cost in documents.items():
            for way in ("POST", "GET", "persisted", "SSE", "WebSocket"):
                if way == "GET" and query.startswith("mutation"):
                    continue
                key = next(keys)
                answer = await told(server, way, query, key)
                # A persisted document is sent twice here. A socket's introduction is a call too.
                expected = {"persisted": 2 * cost, "WebSocket": cost + 1}.get(way, cost)
                spent = LIMIT - 1 - await left(server, key)
                if (answer.codes, spent) != ([], expected):
                    wrong.append((query, way, answer.text, spent, expected))
                status = answer.json["extensions"]["cost"].get("throttleStatus")
                if way != "GET" and (status["limit"], status["remaining"]) != (LIMIT, LIMIT - expected):
                    wrong.append((query, way, status))
        assert wrong == []


@pytest.mark.parametrize(("way", "served"), [("POST", 4), ("SSE", 4), ("WebSocket", 3)])
async def test_a_document_of_many_mutations_costs_them_all_before_any_is_done(
    settings: Settings, pool: Pool, way: str, served: int
) -> None:
    """S3: aliases are no way round the limit. More than five root fields are refused whatever is left of it."""
    key = await key_for(settings, Role.STEWARD)
    async with limited(settings) as server:
        codes = []
        for document in range(served + 1):
            emails = (f"a{number}@{document}.example" for number in range(5))
            fields = " ".join(
                f'n{n}: identify(input: {{email: "{email}"}}) {{ __typename }}' for n, email in enumerate(emails)
            )
            codes.append((await told(server, way, f"mutation {{ {fields} }}", key)).codes)
        assert codes == [[]] * served + [["RATE_LIMITED"]]
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 5 * served


async def test_a_large_page_costs_more_than_one(settings: Settings) -> None:
    key = await key_for(settings, Role.STEWARD)
    query = "{ contacts(first: 100) { nodes { family { id } } } }"
    async with limited(settings) as server:
        answer = await told(server, "POST", query, key)
        assert answer.codes == []
        assert LIMIT - 1 - await left(server, key) > 1


async def test_operations_of_a_socket_are_counted_one_by_one(settings: Settings) -> None:
    key = await key_for(settings, Role.STEWARD)
    async with limited(settings) as server, AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
        client = await opened(stack, server, key)
        await heard(client)
        for number in range(LIMIT - 1):  # the introduction was one
            await subscribe(client, NAME, id=str(number))
            assert (await heard(client))["payload"]["data"] == {"__typename": "Query"}
            await heard(client)
        await subscribe(client, NAME, id="more")
        refused = await heard(client)
        assert (refused["type"], refused["id"]) == ("error", "more")
        extensions = refused["payload"][0]["extensions"]
        assert (extensions["code"], extensions["limit"], extensions["remaining"]) == ("RATE_LIMITED", LIMIT, 0)
        assert extensions["retryAfterSeconds"] > 0


async def test_each_event_that_is_delivered_counts(counted: Settings) -> None:
    """A caller who catches up gets as many events as the limit holds, then goes on when there is more."""
    feeding, events = await key_for(counted, Role.ADMIN), 2 * LIMIT
    by_socket, by_stream = await keys_for(counted, 2)
    async with limited(counted) as server:
        async with calling(server, feeding) as client:
            for number in range(events):
                (await client.post("/identify", json={"email": f"a{number}@b.example"})).raise_for_status()
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            socket = await opened(stack, server, by_socket)
            await heard(socket)
            await subscribe(socket, EVENTS)
            messages = [await heard(socket)]
            while messages[-1]["type"] == "next":
                messages.append(await heard(socket))
        sequences = [message["payload"]["data"]["identityEvents"]["sequence"] for message in messages[:-1]]
        assert sequences == list(range(1, LIMIT - 1)), "one for the introduction, one for the subscription"
        assert messages[-1]["payload"][0]["extensions"]["code"] == "RATE_LIMITED"
        async with calling(server, by_stream, accept="text/event-stream") as api:
            told_of = (await api.post("/graphql", json={"query": EVENTS})).text
        answers = [json.loads(line[6:]) for line in told_of.splitlines() if line.startswith("data: {")]
        assert [answer["data"]["identityEvents"]["sequence"] for answer in answers[:-1]] == list(range(1, LIMIT))
        assert answers[-1]["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
        assert told_of.endswith("event: complete\ndata:\n\n")


async def test_failed_logins_count_for_their_address_and_for_nobody_else(counted: Settings) -> None:
    key = await key_for(counted, Role.STEWARD)
    forged = key[:17] + "0" * 72
    async with limited(counted) as server:
        async with calling(server, None) as client:
            bad: list[dict[str, str]] = [
                {}, {"authorization": f"Bearer {forged}"}, {"x-api-key": forged}, {"authorization": "Basic x"},
                {"authorization": f"Bearer {key}", "x-api-key": key},
            ]  # fmt: skip
            statuses = [
                (await client.post("/identify", json=ADA, headers=bad[number % len(bad)])).status_code
                for number in range(LIMIT)
            ]
            assert set(statuses) == {401, 400}
            for headers in bad:
                answer = await client.post("/identify", json=ADA, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")
            async with AsyncExitStack() as stack:
                socket = await opened(stack, server, forged)
                with pytest.raises(Exception, match="1013"):
                    await socket.recv()
            assert (await client.get("/health")).status_code == 200, "open routes are not limited"
        assert await left(server, key) == LIMIT - 1


async def test_refused_operations_count(settings: Settings) -> None:
    key = await key_for(settings, Role.STEWARD)
    async with limited(settings) as server, calling(server, key) as client:
        for path, body in (
            ("/identify", b"{"),
            ("/identify", b'{"email": 5}'),
            ("/graphql", b"{"),
            ("/graphql", b'{"query": "{ nothing }"}'),
            ("/graphql", b'{"query": "{"}'),
            ("/nowhere", b"{}"),
        ):
            headers = {"content-type": "application/json", "accept": "application/graphql-response+json"}
            assert (await client.post(path, content=body, headers=headers)).status_code >= 400
        assert LIMIT - 1 - await left(server, key) == 6


async def test_no_caller_has_part_of_anothers_limit(settings: Settings) -> None:
    keys = await keys_for(settings, 3)
    async with limited(settings) as server:

        async def calls(key: str) -> list[int]:
            async with calling(server, key) as client:
                posts = (client.post("/identify", json=ADA) for _ in range(LIMIT + 5))
                return sorted(answer.status_code for answer in await asyncio.gather(*posts))

        assert await asyncio.gather(*map(calls, keys)) == [[200] * LIMIT + [429] * 5] * 3


@pytest.mark.parametrize("way", ["POST", "GET"])
async def test_the_quota_of_families_holds_for_every_reading(settings: Settings, way: str) -> None:
    """S10: a crawl by lookups, by ids, by lists."""
    quota, people = 5, 12
    admin, readers = await key_for(settings, Role.ADMIN), await keys_for(settings, 4, Role.READER)
    async with guarded_api(settings, family_quota_families=quota) as server:
        async with calling(server, admin) as client:
            for number in range(people):
                (await client.post("/identify", json={"email": f"a{number}@b.example"})).raise_for_status()
        crawls = [
            [f'{{ contactFamily(by: {{email: "a{n}@b.example"}}) {{ id }} }}' for n in range(people)],
            [f'{{ contact(id: "{n + 1}") {{ id }} }}' for n in range(people)],
            [f'{{ nodes(ids: ["{encode_id("Contact", n + 1)}"]) {{ id }} }}' for n in range(people)],
        ]
        for crawl, key in zip(crawls, readers[:3], strict=True):
            codes = [(await told(server, way, query, key)).codes for query in crawl]
            assert codes == [[]] * quota + [["RATE_LIMITED"]] * (people - quota)
            again = await told(server, way, crawl[0], key)
            assert "RATE_LIMITED" not in again.codes, "what was read today may be read again"
        key = readers[3]
        assert (await told(server, way, "{ contacts(first: 4) { nodes { id } } }", key)).codes == []
        assert (await told(server, way, "{ contacts(first: 5) { nodes { id } } }", key)).codes == ["RATE_LIMITED"]


async def test_open_is_unlimited(api: httpx2.AsyncClient) -> None:
    """Where the door asks nobody for credentials, no limit is told of."""
    answer = await api.post("/graphql", json={"query": "{ rateLimit { limit } }"})
    assert answer.json()["data"] == {"rateLimit": None}
    assert "throttleStatus" not in answer.json()["extensions"]["cost"]
    assert not any(name.startswith("ratelimit") for name in answer.headers)
