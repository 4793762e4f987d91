"""The audit trail has an entry of every call that reads or changes identities, and of every refusal."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID, uuid4

import pytest
from websockets.exceptions import ConnectionClosed

from nexus_graph.api.cursors import encode_id
from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Pool
from tests.stage.callers import PLENTY, calling, guarded_api, key_for
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.running import ApiServer, both_ways
from tests.stage.transports import heard, opened, subscribe

ADA, BOB = {"email": "ada@example.com"}, {"email": "bob@example.com"}
Entries = list[tuple[str, str, list[int]]]
EVENT = encode_id("IdentityEvent", 1)
GRAPHQL_CALLS: list[tuple[Role, str, str]] = [
    (Role.STEWARD, 'mutation { identify(input: {email: "bob@example.com"}) { __typename } }', "identify changed 2"),
    (Role.SERVICE, 'mutation { identify(input: {email: "bob@example.com"}) { __typename } }', "identify answered 2"),
    (Role.STEWARD, 'mutation { identify(input: {email: "bob"}) { __typename } }', "identify refused"),
    (Role.READER, 'mutation { identify(input: {email: "b@example.com"}) { __typename } }', "identify forbidden"),
    (Role.READER, '{ contactFamily(by: {email: "ada@example.com"}) { id } }', "family-by-identifier answered 1"),
    (Role.READER, '{ contactFamily(by: {email: "eve@example.com"}) { id } }', "family-by-identifier absent"),
    (Role.OPERATOR, '{ contactFamily(by: {email: "ada@example.com"}) { id } }', "family-by-identifier forbidden"),
    (Role.READER, '{ contact(id: "1") { id family { id } } }', "family answered 1, family answered 1"),
    (Role.READER, '{ contact(id: "999") { id } }', "family absent"),
    (Role.SERVICE, '{ contact(id: "1") { id } }', "family absent"),
    (Role.SERVICE, '{ contact(id: "2") { id } }', "family answered 2"),
    (Role.READER, '{ contact(id: "1", atLeast: 999999) { id } }', "family refused"),
    (Role.PRIVACY, '{ contact(id: "1") { id } }', "contact forbidden"),
    (Role.READER, f'{{ node(id: "{EVENT}") {{ id }} }}', "events answered 1"),
    (Role.READER, "{ contacts { nodes { id } } }", "list answered 1 2"),
    (Role.SERVICE, "{ contacts { nodes { id } } }", "list forbidden"),
    (Role.READER, '{ contacts(filter: {emailPrefix: "a"}) { nodes { id } } }', "list forbidden"),
    (Role.READER, "{ identityEvents { nodes { id } } }", "events answered"),
    (Role.READER, '{ identityEvents(contactId: "1") { nodes { id } } }', "family answered 1, events answered 1"),
    (Role.SERVICE, '{ identityEvents(contactId: "1") { nodes { id } } }', "family absent, events absent"),
    (Role.READER, "{ rateLimit { limit } }", ""),
    (Role.READER, "{ nothing }", "query refused"),
    (Role.READER, "{", "query refused"),
    (Role.READER, "query($id: ID!) { contact(id: $id) { id } }", "query refused"),
]
"""Who asks, for what, and the entries of it: what, outcome, ids of families."""


@pytest.fixture
async def server(settings: Settings, keys: dict[Role, str]) -> AsyncIterator[ApiServer]:
    async with guarded_api(settings) as server:
        async with calling(server, keys[Role.ADMIN]) as admin:
            (await admin.post("/identify", json=ADA)).raise_for_status()
        yield server


def _entry(text: str) -> tuple[str, str, list[int]]:
    what, outcome, *family_ids = text.split()
    return what, outcome, list(map(int, family_ids))


async def entries(pool: Pool, request_id: UUID) -> Entries:
    """Of the request, in order."""
    rows = await pool.fetch(
        "SELECT what, outcome, family_ids FROM audit_log WHERE request_id = $1 ORDER BY seq", request_id
    )
    return [(row["what"], row["outcome"], sorted(row["family_ids"])) for row in rows]


async def stored(pool: Pool, server: ApiServer, key: str) -> None:
    """Return once all that was done before is on the trail: entries are stored in order."""
    last = uuid4()
    async with calling(server, key) as client, asyncio.timeout(PATIENCE_SECONDS):
        await client.post("/identify", json=ADA, headers={"x-request-id": str(last)})
        while not await entries(pool, last):
            pass


@both_ways
async def test_calls_of_graphql(server: ApiServer, keys: dict[Role, str], pool: Pool) -> None:
    asked: list[tuple[str, UUID, Entries]] = []
    for role, query, expected in GRAPHQL_CALLS:
        wanted = [_entry(text) for text in expected.split(", ") if text]
        for method in ("POST", "GET"):
            if method == "GET" and query.startswith("mutation"):
                continue
            request_id = uuid4()
            async with calling(server, keys[role], **{"x-request-id": str(request_id)}) as client:
                if method == "GET":
                    await client.get("/graphql", params={"query": query})
                else:
                    await client.post("/graphql", json={"query": query})
            asked.append((f"{role} {method} {query}", request_id, wanted))
    await stored(pool, server, keys[Role.ADMIN])
    found = [(name, await entries(pool, request_id)) for name, request_id, _ in asked]
    assert found == [(name, expected) for name, _, expected in asked]
    assert await pool.fetchval("SELECT array_agg(DISTINCT who) <@ $1 FROM audit_log WHERE what <> 'key-create'", [
        "system", *(f"key:{key[4:16]}" for key in keys.values())
    ])  # fmt: skip


@both_ways
async def test_calls_of_routes(server: ApiServer, keys: dict[Role, str], pool: Pool) -> None:
    calls: list[tuple[str | None, str, str, bytes, Entries]] = [
        (keys[Role.SERVICE], "POST", "/identify", json.dumps(BOB).encode(), [("identify", "changed", [2])]),
        (keys[Role.SERVICE], "POST", "/identify", json.dumps(BOB).encode(), [("identify", "answered", [2])]),
        (keys[Role.SERVICE], "POST", "/identify", b'{"email": "bob"}', [("identify", "refused", [])]),
        (keys[Role.SERVICE], "POST", "/identify", b'{"email": "bob", "more": 1}', [("identify", "refused", [])]),
        (keys[Role.SERVICE], "POST", "/identify", b"{", [("identify", "refused", [])]),
        (keys[Role.SERVICE], "POST", "/identify", b"{}" + b" " * 70_000, [("identify", "refused", [])]),
        (keys[Role.READER], "POST", "/identify", b"{}", [("identify", "forbidden", [])]),
        (keys[Role.OPERATOR], "GET", "/metrics", b"", [("metrics", "answered", [])]),
        (keys[Role.READER], "GET", "/metrics", b"", [("metrics", "forbidden", [])]),
        (keys[Role.READER], "GET", "/nowhere", b"", [("other", "refused", [])]),
        (keys[Role.READER], "POST", "/graphql", b"{", [("query", "refused", [])]),
        (keys[Role.READER], "POST", "/graphql", b"[]", [("query", "refused", [])]),
        (keys[Role.READER], "GET", "/graphql", b"", [("query", "refused", [])]),
        (None, "POST", "/identify", b"{}", [("enter", "unauthenticated", [])]),
        (None, "POST", "/graphql", b"{}", [("enter", "unauthenticated", [])]),
        (None, "GET", "/metrics", b"", [("enter", "unauthenticated", [])]),
        ("nxk_nothing", "POST", "/identify", b"{}", [("enter", "unauthenticated", [])]),
        (f"{keys[Role.ADMIN]}, x", "POST", "/identify", b"{}", [("enter", "unauthenticated", [])]),
        (None, "GET", "/health", b"", []),
        (keys[Role.READER], "GET", "/livez", b"", []),
    ]
    asked = []
    for key, method, path, body, expected in calls:
        request_id = uuid4()
        async with calling(server, key, **{"x-request-id": str(request_id)}) as client:
            headers = {"content-type": "application/json", "accept": "application/json"}
            await client.request(method, path, content=body, headers=headers)
        asked.append(((method, path, body[:20]), request_id, expected))
    await stored(pool, server, keys[Role.ADMIN])
    found = [(name, await entries(pool, request_id)) for name, request_id, _ in asked]
    assert found == [(name, expected) for name, _, expected in asked]


async def test_a_call_past_a_limit(settings: Settings, pool: Pool) -> None:
    admin, reader = await key_for(settings, Role.ADMIN), await key_for(settings, Role.READER)
    rates = {**PLENTY, "reader": "2/hour"}
    async with guarded_api(settings, rate_limits=rates, family_quota_families=1) as server:
        async with calling(server, admin) as client:
            (await client.post("/identify", json=ADA)).raise_for_status()
            (await client.post("/identify", json=BOB)).raise_for_status()
        found = []
        for contact in (1, 2, 1):
            request_id = uuid4()
            async with calling(server, reader, **{"x-request-id": str(request_id)}) as client:
                await client.post("/graphql", json={"query": f'{{ contact(id: "{contact}") {{ id }} }}'})
            found.append(request_id)
        await stored(pool, server, admin)
    assert [await entries(pool, request_id) for request_id in found] == [
        [("family", "answered", [1])], [("family", "limited", [])], [("other", "limited", [])],
    ]  # fmt: skip


async def test_what_happens_on_sockets_and_streams(server: ApiServer, keys: dict[Role, str], pool: Pool) -> None:
    events = "subscription { identityEvents(after: 0) { sequence } }"
    changes = 'subscription { familyChanged(contactId: "1") { id } }'
    family = '{ contact(id: "1") { id } }'
    expected: dict[Role, Entries] = {
        Role.READER: [
            ("socket", "answered", []),
            ("subscribe", "answered", []),
            ("subscribe", "answered", []),
            ("family", "answered", [1]),
            ("family", "answered", [1]),
            ("query", "refused", []),
            ("subscribe", "answered", []),
        ],
        Role.SERVICE: [("socket", "answered", []), ("subscribe", "forbidden", [])],
    }
    for role, queries in ((Role.READER, (events, changes, family, "{ nothing }")), (Role.SERVICE, (events,))):
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
            client = await opened(stack, server, keys[role])
            await heard(client)
            for number, query in enumerate(queries):
                await subscribe(client, query, id=str(number))
                while (await heard(client))["id"] != str(number):
                    pass
    async with (
        calling(server, keys[Role.READER], accept="text/event-stream") as api,
        api.stream("POST", "/graphql", json={"query": events}) as stream,
    ):
        assert "event: next" in [line async for line in _first(stream.aiter_lines())]
    await stored(pool, server, keys[Role.ADMIN])
    for role, wanted in expected.items():
        rows = await pool.fetch(
            "SELECT what, outcome, family_ids, request_id FROM audit_log WHERE who = $1 ORDER BY seq",
            f"key:{keys[role][4:16]}",
        )
        assert [(row["what"], row["outcome"], list(row["family_ids"])) for row in rows] == wanted
        assert len({row["request_id"] for row in rows}) == (6 if role is Role.READER else 2), "one for each operation"


async def _first(lines: Any) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        return


async def test_strict_answers_nobody_whom_it_cannot_audit(
    settings: Settings, keys: dict[Role, str], pool: Pool
) -> None:
    """The trail's head is locked by somebody else, and the queue is full."""
    room = 5
    async with guarded_api(settings, audit="strict", audit_queue_max_entries=room) as server:
        await stored(pool, server, keys[Role.ADMIN])
        async with pool.acquire() as locking, calling(server, keys[Role.ADMIN]) as client:
            lock = locking.transaction()
            await lock.start()
            await locking.execute("SELECT FROM audit_head FOR UPDATE")
            statuses = [(await client.post("/identify", json=ADA)).status_code for _ in range(room + 2)]
            assert statuses == [200] * room + [503] * 2
            refusals = [
                await client.post("/identify", json=BOB),
                await client.get("/metrics"),
                await client.post("/graphql", json={"query": '{ contact(id: "1") { id } }'}),
                await client.post("/graphql", json={"query": "{"}),
                await client.get("/graphql", params={"query": "{ contacts { nodes { id } } }"}),
                await client.post("/identify", json=BOB, headers={"authorization": "Bearer nothing"}),
            ]
            assert [refusal.status_code for refusal in refusals] == [503] * len(refusals)
            assert all("retry-after" in refusal.headers for refusal in refusals)
            async with AsyncExitStack() as stack:
                socket = await opened(stack, server, keys[Role.ADMIN])
                with pytest.raises(ConnectionClosed, match="1013"):
                    await socket.recv()
            assert (await client.get("/livez")).status_code in (200, 503)
            assert await pool.fetchval("SELECT count(*) FROM contacts") == 1
            await lock.rollback()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (await client.post("/identify", json=BOB)).status_code == 503:
                    pass
        await stored(pool, server, keys[Role.ADMIN])
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 2
    answered = "SELECT count(*) FROM audit_log WHERE (what, outcome) = ('identify', 'answered')"
    assert await pool.fetchval(answered) >= room + 1


async def test_where_strict_strangers_keep_no_one_else_out(
    settings: Settings, keys: dict[Role, str], pool: Pool
) -> None:
    """The trail's head is locked by somebody else. Refused logins and limit hits take half of the queue at most."""
    async with guarded_api(settings, audit="strict", audit_queue_max_entries=6, rate_limit="2/hour") as server:
        await stored(pool, server, keys[Role.ADMIN])
        async with (
            pool.acquire() as locking,
            calling(server, keys[Role.ADMIN]) as client,
            calling(server, "nxk_nothing") as stranger,
        ):
            await locking.execute("BEGIN; SELECT FROM audit_head FOR UPDATE")
            refused = [(await stranger.post("/identify", json=ADA)).status_code for _ in range(5)]
            answered = [(await client.post("/identify", json=ADA)).status_code for _ in range(4)]
            await locking.execute("ROLLBACK")
    assert refused == [401, 401, 429, 503, 503]
    assert answered == [200, 200, 200, 503]
