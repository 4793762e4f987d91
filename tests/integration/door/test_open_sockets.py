"""Sockets and event streams: how a caller comes in, and that they end when the credential does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic, time
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from nexus_graph.config import Settings
from nexus_graph.door.issuing import revoke
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Connection, Pool
from tests.stage.callers import calling, guarded_api, key_for, known
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.issuing import AUDIENCE, ISSUER, OURS, token
from tests.stage.running import ApiServer
from tests.stage.transports import heard, opened, shaken, subscribe

EVENTS = "subscription { identityEvents(after: 0) { sequence } }"
ENDS_SECONDS = 30.0
"""An open socket or stream ends at most so long after its credential."""

End = Callable[[], Awaitable[None]]


@pytest.fixture
async def issued(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with an issuer of tokens."""
    (tmp_path / "jwks.json").write_bytes(OURS)
    return settings.model_copy(
        update={"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": str(tmp_path / "jwks.json")}
    )


@pytest.fixture
async def server(issued: Settings) -> AsyncIterator[ApiServer]:
    async with guarded_api(issued) as server:
        yield server


def user(lasts_seconds: float) -> str:
    """A token of a steward, from now on."""
    return token(iat=int(time()), exp=int(time() + lasts_seconds)).decode()


async def closed(client: Any) -> int:
    """The code that the server closes the socket with, whatever it sends before."""
    try:
        while True:
            await client.recv()
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else 0


async def answered(server: ApiServer, payload: object, *headers: tuple[str, str]) -> int:
    """The code with which the server closes a socket that begins so; 0 if it lets it in."""
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
        client = await shaken(stack, server, headers)
        message = {"type": "connection_init"} | ({} if payload is None else {"payload": payload})
        await client.send(json.dumps(message))
        try:
            assert await heard(client) == {"type": "connection_ack"}
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else -1
        return 0


async def test_who_comes_in_by_a_socket(server: ApiServer, settings: Settings) -> None:
    key, other = await key_for(settings, Role.READER), await key_for(settings, Role.READER)
    await known(server, key, other)
    ours, theirs = f"Bearer {key}", f"Bearer {other}"
    never = f"Bearer nxk_{'0' * 12}_{'0' * 72}"
    wrong: list[object] = []
    for payload, headers, code in [
        ({"authorization": ours}, [], 0),
        ({"authorization": f"Bearer {user(60)}"}, [], 0),
        (None, [("Authorization", ours)], 0),
        ({}, [("X-API-Key", key)], 0),
        ({"authorization": None}, [("X-API-Key", key)], 0),
        ({"authorization": ours}, [("X-API-Key", key)], 0),
        ({"authorization": ours}, [("Authorization", ours)], 0),
        (None, [], 4401),
        ({}, [], 4401),
        ({"authorization": None}, [], 4401),
        ({"Authorisation": ours}, [], 4401),
        ({"authorization": never}, [], 4403),
        ({"authorization": key}, [], 4403),
        ({"authorization": ""}, [], 4403),
        ({"authorization": 5}, [], 4403),
        ({"authorization": [ours]}, [], 4403),
        ({"authorization": {"bearer": key}}, [], 4403),
        ({"authorization": f"Basic {key}"}, [], 4403),
        ({"authorization": "Bearer \ud800"}, [], 4403),
        ({"authorization": "Bearer \x00"}, [], 4403),
        ({"authorization": "Bearer " + "a" * 60_000}, [], 4403),
        ({"authorization": f"Bearer {user(-120)}"}, [], 4403),
        ({"authorization": ours}, [("Authorization", theirs)], 4403),
        ({"authorization": ours}, [("X-API-Key", other)], 4403),
        ({"authorization": ours}, [("Authorization", never)], 4403),
        ({"authorization": f"{ours}, {theirs}"}, [], 4400),
        (None, [("Authorization", ours), ("X-API-Key", key)], 4400),
        (None, [("Authorization", ours), ("Authorization", ours)], 4400),
        ({"authorization": ours}, [("Authorization", ours), ("X-API-Key", key)], 4400),
        ([ours], [], 4400),
    ]:
        if (found := await answered(server, payload, *headers)) != code:
            wrong.append((payload, headers, found, code))
    assert wrong == []


async def test_who_was_not_let_in_asks_for_nothing(server: ApiServer) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
        client = await shaken(stack, server)
        await subscribe(client, "{ __typename }")
        assert await closed(client) == 4401


async def _socket_ends(server: ApiServer, key: str, ready: asyncio.Event) -> tuple[float, int]:
    """When it ended, and with which code: after it has brought an event."""
    async with AsyncExitStack() as stack:
        client = await opened(stack, server, key)
        await heard(client)
        await subscribe(client, EVENTS)
        assert (await heard(client))["type"] == "next"
        ready.set()
        code = await closed(client)
        return monotonic(), code


async def _stream_ends(server: ApiServer, key: str, ready: asyncio.Event) -> tuple[float, int]:
    """When it ended; 0."""
    async with calling(server, key) as client:
        headers = {"accept": "text/event-stream"}
        try:
            async with client.stream("POST", "/graphql", json={"query": EVENTS}, headers=headers) as found:
                async for line in found.aiter_lines():
                    if line.startswith("data: {"):
                        ready.set()
        except httpx2.HTTPError:
            pass
        return monotonic(), 0


async def test_they_end_when_the_credential_does(
    server: ApiServer, settings: Settings, owner: Connection, pool: Pool
) -> None:
    """By expiry of a key and of a token, and by revocation; others go on."""
    lasting = await key_for(settings, Role.STEWARD)
    await known(server, lasting)
    async with calling(server, lasting) as steward:
        (await steward.post("/identify", json={"email": "ada@example.com"})).raise_for_status()
    revoked = await key_for(settings, Role.STEWARD)
    short = 3.0
    credentials = {
        "expired key": await key_for(settings, Role.STEWARD, lasts_seconds=short),
        "expired token": user(short),
    }
    ends_at = dict.fromkeys(credentials, monotonic() + short - 1.0)  # a token's end is a whole second
    await known(server, revoked, credentials["expired key"])
    credentials |= {"revoked key": revoked, "lasting key": lasting}
    tasks, ready = {}, {}
    for name, text in credentials.items():
        for kind, ends in (("socket", _socket_ends), ("stream", _stream_ends)):
            ready[name, kind] = asyncio.Event()
            tasks[name, kind] = asyncio.create_task(ends(server, text, ready[name, kind]))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(event.wait() for event in ready.values()))
    await revoke(owner, revoked[4:16])
    ends_at["revoked key"] = monotonic()
    for (name, kind), task in tasks.items():
        if name != "lasting key":
            ended_at, code = await asyncio.wait_for(task, ENDS_SECONDS)
            assert 0 <= ended_at - ends_at[name] <= ENDS_SECONDS, (name, kind)
            assert code == (4403 if kind == "socket" else 0), (name, kind)
    for kind in ("socket", "stream"):
        assert not tasks["lasting key", kind].done()
        tasks["lasting key", kind].cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    async with asyncio.timeout(PATIENCE_SECONDS):
        ended = "SELECT count(*) FROM audit_log WHERE (what, outcome) = ('socket', 'unauthenticated')"
        while await pool.fetchval(ended) < 6:
            pass
