"""Bad input behind the door, by callers with credentials and without: no failure of ours, nothing written or told."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Pool
from tests.stage.callers import bearing, calling, guarded_api, key_for
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.running import ApiServer, both_ways
from tests.stage.transports import heard, opened, shaken

JSON = {"content-type": "application/json"}
CANARY = "canary.k7q2zv"
MAIL = f"{CANARY}@aviary.example".encode()
IDENTIFY = "mutation($i: IdentifyInput!) { identify(input: $i) { __typename ... on UserError { code message } } }"
UNREADABLE: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "truncated": b'{"email": "%b' % MAIL,
    "not closed": b'{"email": "%b"' % MAIL,
    "a string": b'"%b"' % MAIL,
    "a number": b"5",
    "a list": b'[{"email": "%b"}]' % MAIL,
    "null": b"null",
    "not UTF-8": b'{"email": "%b\xff"}' % MAIL,
    "a surrogate in UTF-8": b'{"email": "%b\xed\xa0\x80"}' % MAIL,
    "UTF-16": '{"email": "x@y.example"}'.encode("utf-16"),
    "deep lists": b'{"email": ' + b"[" * 30_000,
    "deep objects": b'{"email": ' + b'{"a":' * 10_000,
    "NaN": b'{"phoneNumber": NaN}',
    "Infinity": b'{"phoneNumber": -Infinity}',
    "twice": b'{"email": "%b", "email": "%b"}' % (MAIL, MAIL),
    "twice, escaped": b'{"email": "%b", "em\\u0061il": "%b"}' % (MAIL, MAIL),
    "twice, deep": b'{"more": [{"a": 1, "a": 1}], "email": "%b"}' % MAIL,
    "NUL": b'{"email": "\x00%b"}' % MAIL,
    "two objects": b'{"email": "%b"}{}' % MAIL,
}
BAD_MEMBERS: dict[str, dict[str, Any]] = {
    "nobody": {},
    "nulls": {"email": None, "phoneNumber": None},
    "blanks": {"email": " ", "phoneNumber": ""},
    "long number": {"phoneNumber": int("9" * 4_000)},
    "a fraction": {"phoneNumber": 1.5},
    "an object": {"email": {CANARY: CANARY}},
    "a NUL": {"email": f"{CANARY}\0@x.example"},
    "a control": {"email": f"{CANARY}\x85@x.example"},
    "right to left": {"email": f"{CANARY}\u202e@x.example"},
    "a surrogate": {"email": f"{CANARY}\ud800@x.example"},
    "two @": {"email": f"{CANARY}@@x.example"},
    "no @": {"email": CANARY},
    "a long local part": {"email": CANARY * 20 + "@x.example"},
    "a long domain": {"email": f"{CANARY}@{'d' * 250}.example"},
    "SQL": {"email": f"{CANARY}'; DROP TABLE contacts; --"},
    "letters": {"phoneNumber": f"{CANARY}"},
    "too many digits": {"phoneNumber": "+" + "4" * 30},
}
CODES = ("BAD_USER_INPUT", "BAD_REQUEST", "UNAUTHENTICATED", "FORBIDDEN")
HOLDERS = ("nobody", "forged", "reader", "service")


@pytest.fixture
async def keys(settings: Settings) -> dict[str, str | None]:
    service, reader = await key_for(settings, Role.SERVICE), await key_for(settings, Role.READER)
    return {"nobody": None, "forged": f"{service[:17]}{'0' * 72}", "reader": reader, "service": service}


@pytest.fixture
async def server(settings: Settings, keys: dict[str, str | None]) -> AsyncIterator[ApiServer]:
    assert set(keys) == set(HOLDERS)
    async with guarded_api(settings) as server:
        yield server


@pytest.fixture(autouse=True)
async def nothing_is_written_or_logged(
    server: ApiServer, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[None]:
    """Holds that no identity came to be, no failure of ours was logged, and no value."""
    assert server.port
    yield
    for table in ("contacts", "evidence", "identity_events", "outbox", "aliases"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    logged = capsys.readouterr().err
    assert CANARY not in logged
    assert "unexpected_error" not in logged
    assert "operation_failed" not in logged
    assert "Traceback" not in logged


def refusals(holder: str, path: str, *, allowed: tuple[int, ...] = (400, 413, 415, 422)) -> tuple[int, ...]:
    """The status of a bad request by this caller: who may not come in, or not do this, learns no more than that."""
    if holder in ("nobody", "forged"):
        return (401,)
    return (403,) if (holder, path) == ("reader", "/identify") else allowed


@both_ways
@pytest.mark.parametrize("holder", HOLDERS)
async def test_bodies_that_cannot_be_read(server: ApiServer, keys: dict[str, str | None], holder: str) -> None:
    bodies = dict(UNREADABLE) | {"too long": b'{"email": "%b"}' % MAIL + b" " * 70_000}
    wrong: list[tuple[object, ...]] = []
    async with calling(server, keys[holder]) as client:
        for path in ("/identify", "/graphql"):
            for name, body in bodies.items():
                for headers in (JSON, {"content-type": "application/json; charset=utf-8"}):
                    found = await client.post(path, content=body, headers=headers)
                    if found.status_code not in refusals(holder, path) or CANARY in found.text:
                        wrong.append((path, name, found.status_code, found.text))
            for type_ in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"):
                found = await client.post(path, content=b'{"email": "%b"}' % MAIL, headers={"content-type": type_})
                if found.status_code not in refusals(holder, path, allowed=(415,)):
                    wrong.append((path, type_, found.status_code, found.text))
    assert wrong == []


@both_ways
@pytest.mark.parametrize("holder", HOLDERS)
async def test_identifiers_that_are_none(server: ApiServer, keys: dict[str, str | None], holder: str) -> None:
    wrong: list[tuple[object, ...]] = []
    async with calling(server, keys[holder]) as client:
        for name, members in BAD_MEMBERS.items():
            by_rest = await client.post("/identify", content=json.dumps(members), headers=JSON)
            if by_rest.status_code not in refusals(holder, "/identify") or CANARY in by_rest.text:
                wrong.append((name, by_rest.status_code, by_rest.text))
            request = json.dumps({"query": IDENTIFY, "variables": {"i": members}})
            for accept in ("application/json", "application/graphql-response+json", "text/event-stream"):
                found = await client.post("/graphql", content=request, headers={**JSON, "accept": accept})
                said = found.text
                refused = any(code in said for code in CODES)
                if found.status_code >= 500 or not refused or CANARY in said or "IdentifySuccess" in said:
                    wrong.append((name, accept, found.status_code, said))
    assert wrong == []


@pytest.mark.parametrize("holder", HOLDERS)
async def test_messages_of_sockets_that_cannot_be_read(
    server: ApiServer, keys: dict[str, str | None], holder: str
) -> None:
    """Before the introduction and after it: always a code of the protocol, never a broken connection."""
    wrong: list[tuple[object, ...]] = []
    texts = {name: body for name, body in UNREADABLE.items() if "UTF" not in name}
    messages: dict[str, str | bytes] = {name: body.decode() for name, body in texts.items()}
    messages |= {
        "no type": "{}",
        "an unknown type": json.dumps({"type": CANARY}),
        "a type that is none": json.dumps({"type": {CANARY: 1}}),
        "no payload": json.dumps({"type": "subscribe", "id": "1"}),
        "no id": json.dumps({"type": "subscribe", "payload": {"query": "{ __typename }"}}),
        "an id that is none": json.dumps({"type": "subscribe", "id": 5, "payload": {"query": "{ __typename }"}}),
        "a query that is none": json.dumps({"type": "subscribe", "id": "1", "payload": {"query": 5}}),
        "a list of variables": '{"type": "subscribe", "id": "1", "payload": {"query": "{a}", "variables": [1]}}',
        "a surrogate escaped": json.dumps({"type": "subscribe", "id": "1", "payload": {"query": '{ a(b: "\ud800") }'}}),
        "bytes": b'{"type": "connection_init"}',
    }  # fmt: skip
    for introduced in (False, True):
        for name, message in messages.items():
            async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
                client = await shaken(stack, server)
                try:
                    if introduced:
                        await client.send(json.dumps({"type": "connection_init", "payload": bearing(keys[holder])}))
                        await heard(client)
                    await client.send(message)
                    said = await client.recv()
                    wrong.append((introduced, name, said))
                except ConnectionClosed as closed:
                    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, "")
                    let_in = introduced and holder in ("reader", "service")
                    expected = (4400, 1007) if let_in or not introduced else (4401, 4403)
                    if code not in (*expected, *(() if introduced else (4401,))) or CANARY in reason:
                        wrong.append((introduced, name, f"{code} {reason}"))
    assert wrong == []


@pytest.mark.parametrize("holder", ["reader", "service"])
async def test_operations_of_sockets_that_cannot_be_done(
    server: ApiServer, keys: dict[str, str | None], holder: str
) -> None:
    """Each is refused in its own frame, and the socket goes on."""
    wrong: list[tuple[object, ...]] = []
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
        client = await opened(stack, server, keys[holder])
        await heard(client)
        for number, (name, members) in enumerate(BAD_MEMBERS.items()):
            payload = {"query": IDENTIFY, "variables": {"i": members}}
            await client.send(json.dumps({"type": "subscribe", "id": str(number), "payload": payload}))
            message = await heard(client)
            said = json.dumps(message)
            if message["id"] != str(number) or CANARY in said or "IdentifySuccess" in said or "INTERNAL" in said:
                wrong.append((name, said))
            if message["type"] == "next":
                assert (await heard(client))["type"] == "complete"
        await client.send(json.dumps({"type": "ping"}))
        assert await heard(client) == {"type": "pong"}
    assert wrong == []


async def raw(server: ApiServer, request: bytes, *, ends: bool = True) -> bytes:
    """All that the server answers until it closes; `ends`: the client says that it sends no more."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        writer.write(request)
        if ends:
            writer.write_eof()
        answer = await reader.read()
    writer.close()
    return answer


@both_ways
async def test_headers_of_credentials_that_no_honest_client_sends(
    server: ApiServer, keys: dict[str, str | None]
) -> None:
    key = str(keys["service"]).encode()
    body = b'{"email": "bob"}'  # with a good credential this is 400
    end = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
    wrong: list[tuple[object, ...]] = []
    for name, headers, statuses in [
        ("good", b"authorization: Bearer " + key, (400,)),
        ("another case", b"AUTHORIZATION: bEARER " + key, (400,)),
        ("key header", b"x-api-key: " + key, (400,)),
        ("twice", b"authorization: Bearer " + key + b"\r\nauthorization: Bearer " + key, (400,)),
        ("two keys", b"x-api-key: " + key + b"\r\nx-api-key: " + key, (400,)),
        ("both", b"x-api-key: " + key + b"\r\nauthorization: Bearer " + key, (400,)),
        ("a list", b"authorization: Bearer " + key + b", Bearer " + key, (400,)),
        ("no scheme", b"authorization: " + key, (401,)),
        ("another scheme", b"authorization: Basic " + key, (401,)),
        ("empty", b"authorization:", (401,)),
        ("empty key", b"x-api-key:", (401,)),
        ("a blank within", b"authorization: Bearer " + key[:40] + b" " + key[40:], (401,)),
        ("a longer key", b"authorization: Bearer " + key + b"0", (401,)),
        ("a shorter key", b"authorization: Bearer " + key[:-1], (401,)),
        ("upper case", b"authorization: Bearer " + key.upper(), (401,)),
        ("no ASCII", b"authorization: Bearer \xff\xfe" + key, (401, 400)),
        ("NUL", b"authorization: Bearer " + key + b"\x00", (400, 401)),
        ("10 kB", b"authorization: Bearer " + b"a" * 10_000, (401, 431)),
        ("64 kB", b"authorization: Bearer " + b"a" * 65_536, (401, 431, 400)),
        ("64 kB of a token", b"authorization: Bearer " + b"a." * 32_768, (401, 431, 400)),
        ("a folded header", b"authorization: Bearer\r\n " + key, (400, 401)),
        ("a bare carriage return", b"x: y\rauthorization: Bearer " + key, (400, 401)),
        ("a blank before the colon", b"authorization : Bearer " + key, (400, 401)),
        ("in a cookie", b"cookie: authorization=Bearer " + key, (401,)),
        ("in the URL's place", b"x-forwarded-authorization: Bearer " + key, (401,)),
    ]:
        for path in (b"/identify", b"/identify/", b"/identify?access_token=" + key):
            request = b"POST %b HTTP/1.1\r\nhost: x\r\n%b\r\n%b" % (path, headers, end)
            answer = await raw(server, request, ends=False)
            status = int(answer.split(b" ", 2)[1]) if answer else 400  # closed without a word is refused too
            if status not in statuses or key in answer:
                wrong.append((name, path, answer[:200]))
    assert wrong == []


@both_ways
async def test_requests_that_two_servers_could_understand_differently(
    server: ApiServer, keys: dict[str, str | None]
) -> None:
    """S21: one answer at most, and never an identify that the second reading would hold."""
    good = b"authorization: Bearer %b\r\ncontent-type: application/json\r\n" % str(keys["service"]).encode()
    inner = b'{"email": "%b"}' % MAIL
    smuggled = b"POST /identify HTTP/1.1\r\nhost: x\r\n" + good + b"content-length: %d\r\n\r\n" % len(inner) + inner
    wrong: list[tuple[object, ...]] = []
    for name, request in {
        "length and chunks": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
        "two lengths": b"content-length: 0\r\ncontent-length: %d\r\n\r\n" % len(smuggled) + smuggled,
        "a list of lengths": b"content-length: 0, 5\r\n\r\n" + smuggled,
        "a signed length": b"content-length: +0\r\n\r\n" + smuggled,
        "a bad chunk": b"transfer-encoding: chunked\r\n\r\nzz\r\n" + smuggled,
        "chunks, twice": b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + smuggled,
        "another encoding": b"transfer-encoding: xchunked\r\ncontent-length: 0\r\n\r\n" + smuggled,
    }.items():
        answer = await raw(server, b"POST /graphql HTTP/1.1\r\nhost: x\r\n" + good + request)
        statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
        if any(status < 400 or status >= 500 for status in statuses[:1]) or 200 in statuses:
            wrong.append((name, answer))
    assert wrong == []
