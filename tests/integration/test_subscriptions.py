"""Subscriptions over both transports: in order, without a gap, resumable, and nobody waits for the slow."""

import asyncio
import gc
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from nexus_graph.api.cursors import FAMILY, encode_id
from nexus_graph.api.graphql.transport.websocket import OPERATIONS_MAX
from nexus_graph.config import Settings
from nexus_graph.identity import feed
from nexus_graph.identity.feed import Feed
from nexus_graph.identity.opening import Identity
from nexus_graph.store.database import Pool
from tests.stage.graphing import PATIENCE_SECONDS, identify, soft_delete
from tests.stage.running import ApiServer, running_api

EVENTS = "subscription ($after: BigInt) { identityEvents(after: $after) { sequence kind familyId contactId } }"
CHANGES = "subscription ($id: ID!) { familyChanged(contactId: $id) { id version emails } }"
GRAPHQL = Subprotocol("graphql-transport-ws")
WELL: dict[str, Any] = {"subprotocols": [GRAPHQL], "close_timeout": 0.5}


@asynccontextmanager
async def socket(
    server: ApiServer, *, introduced: bool = True, patience_seconds: float = PATIENCE_SECONDS, **options: Any
) -> AsyncIterator[ClientConnection]:
    url = f"ws://{server.host}:{server.port}/graphql"
    async with (
        asyncio.timeout(patience_seconds),
        connect(url, subprotocols=[GRAPHQL], close_timeout=0.5, **options) as client,
    ):
        if introduced:
            await tell(client, type="connection_init")
            assert await hear(client) == {"type": "connection_ack"}
        yield client


async def tell(client: ClientConnection, **message: object) -> None:
    await client.send(json.dumps(message))


async def hear(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await client.recv())
    return message


async def subscribe(client: ClientConnection, query: str, *, id: str = "1", **variables: object) -> None:  # noqa: A002
    await tell(client, id=id, type="subscribe", payload={"query": query, "variables": variables})


async def follow(client: ClientConnection, contact: str) -> None:
    """The changes of a contact's family, under the contact's number."""
    await tell(client, id=contact, type="subscribe", payload={"query": CHANGES, "variables": {"id": contact}})


async def until_closed(client: ClientConnection) -> tuple[int, list[dict[str, Any]]]:
    """The code it was closed with, and what was heard before."""
    messages = []
    try:
        while True:
            messages.append(await hear(client))
    except ConnectionClosed as closed:
        return (closed.rcvd.code if closed.rcvd else 0), messages


async def heard(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [await hear(client) for _ in range(count)]


async def sequences(client: ClientConnection, count: int) -> list[int]:
    messages = await heard(client, count)
    assert {message["type"] for message in messages} == {"next"}
    return [message["payload"]["data"]["identityEvents"]["sequence"] for message in messages]


async def committed(pool: Pool) -> list[int]:
    return [row["seq"] for row in await pool.fetch("SELECT seq FROM identity_events ORDER BY seq")]


async def write_much(settings: Settings, seed: int, *, writers: int = 16, each: int = 20) -> None:
    """Concurrent identify calls through two API processes' worth of servers."""
    async with running_api(settings) as one, running_api(settings) as other, asyncio.TaskGroup() as group:

        async def writer(number: int) -> None:
            rng = random.Random(seed * 1000 + number)
            server = (one, other)[number % 2]
            async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as api:
                for _ in range(each):
                    email, phone = f"e{rng.randrange(60)}@x.example", f"+1555000{rng.randrange(60):04d}"
                    await api.post("/identify", json={"email": email, "phoneNumber": phone})

        for number in range(writers):
            group.create_task(writer(number))


async def gaps(settings: Settings, pool: Pool) -> bool:
    """Whether followers of two servers, old and new, missed anything of what many writers committed."""
    seed = random.SystemRandom().randrange(2**31)
    print(f"seed {seed}")
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running_api(settings)) for _ in range(2)]
        clients = [await stack.enter_async_context(socket(server)) for server in servers for _ in range(2)]
        for client in clients:
            await subscribe(client, EVENTS, after=0)
        await identify(pool, ("first@x.example", None))
        for client in clients:
            await sequences(client, 1)  # they follow by now
        await write_much(settings, seed)
        whole = (await committed(pool))[1:]
        for client in clients:
            try:
                async with asyncio.timeout(5):
                    if await sequences(client, len(whole)) != whole:
                        return True
            except TimeoutError:
                return True
    return False


async def test_events_come_in_order_and_without_a_gap(settings: Settings, pool: Pool) -> None:
    assert not await gaps(settings, pool)


async def test_a_feed_that_skips_what_it_did_not_read_in_time_is_caught(
    settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: read the newest page only, as one would who trusts each notice to stand for one event."""
    take = Feed._take
    monkeypatch.setattr(Feed, "_take", lambda self, found: take(self, found[-1:]))
    assert await gaps(settings, pool)


async def test_whoever_was_cut_goes_on_where_it_was(
    settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.identity.feed.PAGE_EVENTS", 2)
    monkeypatch.setattr("nexus_graph.identity.feed.RECENT_EVENTS_MAX", 3)
    async with running_api(settings) as server:
        await identify(pool, *((f"p{number}@x.example", None) for number in range(10)))
        whole = await committed(pool)
        async with socket(server) as client:
            await subscribe(client, EVENTS, after=0)
            assert await sequences(client, 4) == whole[:4]
        async with socket(server) as client:
            await subscribe(client, EVENTS, after=whole[3])
            assert await sequences(client, 6) == whole[4:]
            await identify(pool, *((f"q{number}@x.example", None) for number in range(10)))
            assert await sequences(client, 10) == (await committed(pool))[10:]


async def test_a_family_is_told_at_once_and_after_each_change(server: ApiServer, pool: Pool) -> None:
    await identify(pool, ("bob@x.example", "111"), ("ada@x.example", "222"))
    async with socket(server) as client:
        await tell(client, id="mine", type="subscribe", payload={"query": CHANGES, "variables": {"id": "2"}})
        family = (await hear(client))["payload"]["data"]["familyChanged"]
        assert (family["id"], family["emails"]) == (encode_id(FAMILY, 2), ["ada@x.example"])
        await identify(pool, ("zoe@x.example", "999"), ("ada@x.example", "333"))
        family = (await hear(client))["payload"]["data"]["familyChanged"]
        assert family["emails"] == ["ada@x.example"]
        await identify(pool, ("ada@x.example", "111"))  # the older family takes it in
        family = (await hear(client))["payload"]["data"]["familyChanged"]
        assert (family["id"], family["emails"]) == (encode_id(FAMILY, 1), ["bob@x.example", "ada@x.example"])
        for contact in (1, 2, 4):
            await soft_delete(pool, contact)
        while (family := (await hear(client))["payload"]["data"]["familyChanged"]) is not None:
            pass
        await tell(client, id="mine", type="complete")
        await tell(client, type="ping")
        assert await hear(client) == {"type": "pong"}


async def test_a_deleted_secondary_is_told_once(server: ApiServer, pool: Pool) -> None:
    """Its old family lives on, and changes: that is no news to who followed the contact."""
    await identify(pool, ("ada@x.example", "111"), ("bob@x.example", "111"))
    async with socket(server) as client:
        await follow(client, "2")
        assert (await hear(client))["payload"]["data"]["familyChanged"]["id"] == encode_id(FAMILY, 1)
        await follow(client, "1")
        assert (await hear(client))["id"] == "1"
        await soft_delete(pool, 2)
        told = {message["id"]: message["payload"]["data"]["familyChanged"] for message in await heard(client, 2)}
        assert told["2"] is None
        assert told["1"]["emails"] == ["ada@x.example"]
        for number in range(3):
            await identify(pool, (f"more{number}@x.example", "111"))
            assert (await hear(client))["id"] == "1"


async def test_a_deleted_primary_leads_on_to_its_family(server: ApiServer, pool: Pool) -> None:
    await identify(pool, ("ada@x.example", "111"), ("bob@x.example", "111"))
    async with socket(server) as client:
        await follow(client, "1")
        assert (await hear(client))["payload"]["data"]["familyChanged"]["id"] == encode_id(FAMILY, 1)
        await soft_delete(pool, 1)
        family = (await hear(client))["payload"]["data"]["familyChanged"]
        assert (family["id"], family["emails"]) == (encode_id(FAMILY, 2), ["bob@x.example"])


async def test_a_contact_that_is_yet_to_come_is_told_when_it_does(server: ApiServer, pool: Pool) -> None:
    await identify(pool, ("ada@x.example", "111"))
    async with socket(server) as client:
        await follow(client, "2")
        assert (await hear(client))["payload"]["data"]["familyChanged"] is None
        await identify(pool, ("bob@x.example", "111"))  # a secondary of another's family
        assert (await hear(client))["payload"]["data"]["familyChanged"]["id"] == encode_id(FAMILY, 1)


@pytest.mark.parametrize("directive", ["", "@include(if: true)"], ids=["planned", "by graphql-core"])
async def test_a_subscription_keeps_nothing_of_the_events_it_told(
    settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch, directive: str
) -> None:
    """An executor of graphql-core that was shared by all events kept ten objects of each."""
    monkeypatch.setattr(feed, "_PAGES_KEPT", 8)
    swift = settings.model_copy(update={"feed_catch_up_share": 1.0})
    await pool.execute(
        "INSERT INTO identity_events (seq, at, kind, family_id, contact_id) "
        "SELECT n, now(), 'contact_created', 1000000000 + n, n FROM generate_series(1, 16000) AS n"
    )
    counts = []
    async with running_api(swift) as server, socket(server) as client:
        await subscribe(client, EVENTS.replace("kind", f"kind {directive}"), after=0)
        for _ in range(4):
            await sequences(client, 4_000)
            gc.collect()
            counts.append(len(gc.get_objects()))
    assert counts[-1] - counts[1] < 2_000, counts  # of 8,000 events


async def test_the_slow_are_cut_and_the_quick_get_everything(
    settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long has the slow one to hear why.
    monkeypatch.setattr("nexus_graph.api.http.followers.MESSAGE_SECONDS", 2.0)
    count = 4_000
    cut = REGISTRY.get_sample_value("nexus_subscribers_cut_total", {"transport": "websocket"})
    wide = EVENTS.replace("sequence", "sequence " + " ".join(f"{'a' * 300}{n}: kind" for n in range(15)))
    async with running_api(settings) as server, socket(server, max_queue=1) as slow, socket(server) as quick:
        await subscribe(slow, wide, after=0)
        await subscribe(quick, EVENTS, after=0)
        await pool.execute(
            "INSERT INTO identity_events (seq, at, kind, family_id, contact_id) "
            "SELECT n, now(), 'contact_created', 1000000000 + n, n FROM generate_series(1, $1::int) AS n",
            count,
        )
        assert await sequences(quick, count) == [*range(1, count + 1)]
        while REGISTRY.get_sample_value("nexus_subscribers_cut_total", {"transport": "websocket"}) == cut:
            await tell(quick, type="ping")
            assert await hear(quick) == {"type": "pong"}
        code, heard = await until_closed(slow)
    assert code == 1013
    got = [message["payload"]["data"]["identityEvents"]["sequence"] for message in heard]
    assert got == [*range(1, len(got) + 1)]
    assert len(got) < count


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["nonsense"], 4400),
        (["[" * 100], 4400),
        (['{"type": "ping", "type": "connection_init"}'], 4400),
        (
            [
                {"type": "connection_init"},
                '{"type": "subscribe", "id": "1", "payload": {"query": "{__typename}", "query": "{a: __typename}"}}',
            ],
            4400,
        ),
        ([b"bytes"], 4400),
        ([{"type": "start"}], 4400),
        (['{"type": "connection_init", "type": "connection_init"}'], 4400),
        (
            ['{"type": "connection_init"}', '{"type": "subscribe", "id": "1", "payload": {"query": "", "query": ""}}'],
            4400,
        ),
        ([{"type": "subscribe", "id": "1", "payload": {"query": "{__typename}"}}], 4401),
        ([{"type": "connection_init", "payload": 7}], 4400),
        ([{"type": "connection_init"}, {"type": "connection_init"}], 4429),
        ([{"type": "connection_init"}, {"type": "subscribe", "id": 1, "payload": {}}], 4400),
        *(
            ([{"type": "connection_init"}, {"type": "subscribe", "id": "1", "payload": payload}], 4400)
            for payload in (
                {},
                {"query": None},
                {"query": 7},
                {"query": ["{__typename}"]},
                {"query": "{__typename}", "operationName": 7},
                {"query": "{__typename}", "variables": 7},
                {"query": "{__typename}", "extensions": "x"},
                {"query": "\ud800"},
                {"documentId": 7},
            )
        ),
        ([{"type": "connection_init"}, *[{"type": "subscribe", "id": "1", "payload": {"query": EVENTS}}] * 2], 4409),
        ([], 4408),
    ],
)
async def test_what_breaks_the_protocol_is_closed_with_its_code(
    settings: Settings, messages: list[Any], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.api.graphql.transport.websocket.INIT_SECONDS", 0.5)
    async with running_api(settings) as server, socket(server, introduced=False) as client:
        for message in messages:
            await client.send(message if isinstance(message, str | bytes) else json.dumps(message))
        assert (await until_closed(client))[0] == code


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ({"subprotocols": ["graphql-ws"]}, 4406, "graphql-transport-ws"),
        ({"subprotocols": ["chat", "graphql-ws"]}, 4406, "graphql-transport-ws"),
        ({}, 4406, "graphql-transport-ws"),
        ({"subprotocols": [GRAPHQL], "origin": "https://evil.example"}, 4403, "NEXUS_CORS_ORIGINS"),
        ({"subprotocols": [GRAPHQL], "origin": "null"}, 4403, "NEXUS_CORS_ORIGINS"),
        ({"origin": "https://evil.example"}, 4403, "NEXUS_CORS_ORIGINS"),
    ],
)
async def test_a_socket_that_is_refused_says_why(
    settings: Settings, capsys: pytest.CaptureFixture[str], options: dict[str, Any], code: int, word: str
) -> None:
    let_in = settings.model_copy(update={"cors_origins": ("https://app.example",)})
    async with (
        running_api(let_in) as server,
        asyncio.timeout(PATIENCE_SECONDS),
        connect(f"ws://{server.host}:{server.port}/graphql", **options) as client,
    ):
        assert await until_closed(client) == (code, [])
        assert word in (client.close_reason or "")
        assert client.subprotocol == next(iter(options.get("subprotocols", ())), None)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "socket_refused" in line]
    assert json.loads(line)["code"] == code
    assert json.loads(line).get("origin") == options.get("origin")


async def test_who_is_let_in_and_one_too_many(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    few = settings.model_copy(update={"sockets_max": 1, "cors_origins": ("https://app.example",)})
    async with running_api(few) as server:
        url = f"ws://{server.host}:{server.port}"
        for origin in ("https://app.example", f"http://{server.host}:{server.port}"):
            async with socket(server, origin=origin):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(url + "/graphql", **WELL)
                response = refused.value.response
                assert (response.status_code, response.headers["retry-after"]) == (503, "1")
                assert json.loads(response.body or b"")["code"] == "OVERLOADED"
                assert "too many sockets" in capsys.readouterr().err
                assert await _streamed(server) == 503
        async with asyncio.timeout(PATIENCE_SECONDS), AsyncExitStack() as held:
            while (await held.enter_async_context(follow_stream(server))).status_code == 503:
                pass  # the last socket's place is free in a moment
            assert await _streamed(server) == 503
            with pytest.raises(InvalidStatus):
                await connect(url + "/graphql", **WELL)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await _streamed(server) == 503:
                pass
        with pytest.raises(InvalidStatus):
            await connect(url + "/identify", **WELL)


@asynccontextmanager
async def follow_stream(server: ApiServer) -> AsyncIterator[httpx2.Response]:
    """A subscription by server-sent events, once it is answered."""
    wants = {"accept": "text/event-stream"}
    async with (
        httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as api,
        api.stream("POST", "/graphql", json={"query": EVENTS}, headers=wants) as stream,
    ):
        yield stream


async def _streamed(server: ApiServer) -> int:
    """The status of one more stream."""
    async with follow_stream(server) as stream:
        if stream.status_code != 200:
            assert stream.headers["retry-after"] == "1"
            await stream.aread()
            assert stream.json()["errors"][0]["extensions"]["code"] == "OVERLOADED"
        return stream.status_code


async def test_queries_and_errors_over_a_socket(server: ApiServer, settings: Settings) -> None:
    async with socket(server) as client:
        await subscribe(client, "{ __typename }")
        told = await hear(client)
        assert (told["type"], told["payload"]["data"]) == ("next", {"__typename": "Query"})
        assert await hear(client) == {"id": "1", "type": "complete"}
        nameless = {"query": "query Named { __typename }", "operationName": "", "variables": None}
        await tell(client, id="1", type="subscribe", payload=nameless)
        assert (await hear(client))["payload"]["data"] == {"__typename": "Query"}
        assert await hear(client) == {"id": "1", "type": "complete"}
        for query, variables, code in (
            ("{ nothing }", {}, "GRAPHQL_VALIDATION_FAILED"),
            (EVENTS, {"after": -1}, "BAD_USER_INPUT"),
            (CHANGES, {"id": "x"}, "BAD_USER_INPUT"),
            ("subscription { a: identityEvents { kind } b: identityEvents { kind } }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ):
            await tell(client, id="1", type="subscribe", payload={"query": query, "variables": variables})
            told = await hear(client)
            assert (told["type"], told["payload"][0]["extensions"]["code"]) == ("error", code)
        for number in range(OPERATIONS_MAX + 1):
            await subscribe(client, EVENTS, id=f"op{number}")
        told = await hear(client)
        assert (told["id"], told["type"]) == (f"op{OPERATIONS_MAX}", "error")


async def test_a_server_that_stops_says_so(settings: Settings, pool: Pool) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), running_api(settings) as server:
        client = await connect(f"ws://{server.host}:{server.port}/graphql", **WELL)
        await tell(client, type="connection_init")
        await hear(client)
        await subscribe(client, EVENTS)
        await tell(client, type="ping")
        await hear(client)
    assert (await until_closed(client))[0] in (1001, 1012)
    assert _reading_on() == []


async def test_nobody_reads_on_for_those_who_left(identity: Identity, pool: Pool, rng: random.Random) -> None:
    """Whoever leaves does so at any moment: while the feed connects, is told of a change, or lets go of its connection.

    A feed that lost one of these races read on for ever, and found the record away once its server had stopped.
    """

    async def follow() -> None:
        async with aclosing(identity.feed.events(None)) as batches:
            async for _ in batches:
                pass

    for turn in range(150):
        following = asyncio.create_task(follow())
        await asyncio.sleep(rng.random() * 0.03)
        writing = asyncio.create_task(identify(pool, (f"user{turn}@x.example", None)))
        await asyncio.sleep(rng.random() * 0.004)
        following.cancel()
        await asyncio.wait({following, writing})
        assert _reading_on() == []


def _reading_on() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if "Feed" in repr(task.get_coro())]


async def test_events_as_a_stream(settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_graph.api.http.event_stream.KEEP_ALIVE_SECONDS", 0.05)
    await identify(pool, ("ada@x.example", None))
    body = {"query": EVENTS, "variables": {"after": 0}}
    wants = {"accept": "text/event-stream"}
    heard: list[int] = []
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        running_api(settings) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as api,
    ):
        bad = await api.post("/graphql", json={"query": "{ nothing }"}, headers=wants)
        assert (bad.status_code, "data" in bad.json()) == (422, False)
        once = await api.post("/graphql", json={"query": "{ __typename }"}, headers=wants)
        assert once.text.startswith('event: next\ndata: {"data":{"__typename":"Query"}')
        assert once.text.endswith("event: complete\ndata:\n\n")
        async with api.stream("POST", "/graphql", json=body, headers=wants) as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            lines = stream.aiter_lines()
            async for line in lines:
                if line == ":" and len(heard) == 1:
                    await identify(pool, ("bob@x.example", None))
                if line.startswith("data: "):
                    heard.append(json.loads(line[6:])["data"]["identityEvents"]["sequence"])
                if len(heard) == 2:
                    break
    assert heard == await committed(pool)


async def test_a_stream_ends_when_the_server_stops(settings: Settings) -> None:
    async with (
        asyncio.timeout(settings.shutdown_grace_seconds / 2),
        httpx2.AsyncClient() as api,
        AsyncExitStack() as up,
    ):
        server = await up.enter_async_context(running_api(settings))
        request = api.build_request(
            "POST", f"{server.url}/graphql", json={"query": EVENTS}, headers={"accept": "text/event-stream"}
        )
        stream = await api.send(request, stream=True)
        await up.aclose()
        with pytest.raises(httpx2.RemoteProtocolError):
            await stream.aread()
        await stream.aclose()
