"""Canaries: an email, a phone, API keys and tokens, sent in every place that takes text, in calls that succeed and that
fail. Then everything that the service keeps or tells beside its answers is searched for them.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any, NamedTuple

import httpx2
import pytest
import redis.asyncio as redis
from websockets.exceptions import ConnectionClosed

from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Pool
from tests.stage.callers import bearing, key_for
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.issuing import AUDIENCE, ISSUER, OTHER_RSA, OURS, token
from tests.stage.running import ApiServer, ServeProcess, running_relay
from tests.stage.transports import shaken

LOCAL, DIGITS = "canary.k7q2zv", "447911987654"
EMAIL, PHONE = f"{LOCAL}@aviary.example", f"+{DIGITS}"
FORGED = f"nxk_{'ab12' * 3}_{'c0ffee00' * 9}"
TABLES = (
    "outbox", "audit_log", "audit_head", "audit_stubs", "audit_writers", "identity_events", "sightings", "aliases",
    "api_keys",
)  # fmt: skip
"""All but those of contacts, evidence and identifiers, whose purpose is to hold identifiers."""
OPERATIONS = (
    f'mutation {{ identify(input: {{email: "{EMAIL}", phoneNumber: "{PHONE}"}}) {{ __typename }} }}',
    f'mutation {{ identify(input: {{email: "{EMAIL}x y", phoneNumber: "12 {PHONE}"}}) {{ __typename }} }}',
    f'mutation {{ identify(input: {{mail: "{EMAIL}"}}) {{ __typename }} }}',
    f'{{ contactFamily(by: {{email: "{EMAIL}"}}) {{ emails phoneNumbers }} }}',
    f'{{ contactFamily(by: {{phoneNumber: "{PHONE}"}}) {{ emails }} }}',
    f'{{ contactFamily(by: {{email: "{EMAIL}", phoneNumber: "{PHONE}"}}) {{ id }} }}',
    f'{{ contactFamily(by: "{EMAIL}") {{ id }} }}',
    f'{{ contactFamily(by: {{contactId: "{EMAIL}"}}) {{ id }} }}',
    f'{{ contact(id: "{EMAIL}") {{ id }} }}',
    f'{{ contact(id: "1", atLeast: "{EMAIL}") {{ id }} }}',
    f'{{ node(id: "{PHONE}") {{ id }} }}',
    f'{{ contacts(filter: {{emailPrefix: "{EMAIL}"}}) {{ nodes {{ id }} }} }}',
    f'{{ contacts(filter: {{phonePrefix: "{PHONE}"}}, after: "{EMAIL}") {{ nodes {{ id }} }} }}',
    f'{{ contacts(first: "{EMAIL}") {{ nodes {{ id }} }} }}',
    f'{{ identityEvents(contactId: "{PHONE}") {{ nodes {{ id }} }} }}',
    f'{{ __type(name: "{EMAIL}") {{ name }} }}',
    f'{{ contact(id: "1") {{ id }} # {EMAIL} {PHONE}',
    f'{{ contact(id: "{EMAIL} {PHONE}',
    f'{{ contact(id: "1") @include(if: "{EMAIL}") {{ id }} }}',
    f'query($x: ID = "{EMAIL}") {{ contact(id: $x) {{ id }} }}',
    f"{EMAIL} {PHONE}",
    f'"""{EMAIL}""" {{ contact }}',
)


def secrets_of(*credentials: str) -> list[str]:
    """What makes each a credential: a key's secret, a token's signature."""
    return [one[17:81] if one.startswith("nxk_") else one.rpartition(".")[2] for one in credentials]


class Kept(NamedTuple):
    """A process that logs all it can, where it serves, and all that it has logged."""

    process: ServeProcess
    server: ApiServer
    logged: list[str]


@pytest.fixture
async def kept(settings: Settings, tmp_path: Path, project: Path) -> AsyncIterator[Kept]:
    (tmp_path / "jwks.json").write_bytes(OURS)
    serving = await ServeProcess.start(
        settings, project, NEXUS_AUTH="on", NEXUS_LOG_LEVEL="DEBUG", NEXUS_SLOW_REQUEST_SECONDS="0.000001",
        NEXUS_JWT_ISSUER=ISSUER, NEXUS_JWT_AUDIENCE=AUDIENCE, NEXUS_JWT_JWKS=str(tmp_path / "jwks.json"),
        NEXUS_RATE_LIMIT="off", NEXUS_RATE_LIMITS=json.dumps(dict.fromkeys([role.value for role in Role], "off")),
    )  # fmt: skip
    url = httpx2.URL(await serving.url())
    async with serving.ending() as logged, running_relay(settings):
        yield Kept(serving, ApiServer(url.host, url.port or 0), logged)


async def send_by_http(server: ApiServer, credential: dict[str, str], told: list[str]) -> None:
    """Every body, URL and header with a canary; `told` gets what failed calls were told, and all headers."""
    key = credential.get("authorization", credential.get("x-api-key", ""))
    everywhere = {
        "x-request-id": DIGITS, "user-agent": EMAIL, "referer": f"https://x/?{EMAIL}", "origin": f"https://{EMAIL}",
        "x-forwarded-for": EMAIL, "forwarded": f"for={DIGITS}", "cookie": f"token={key}; email={EMAIL}",
        "traceparent": EMAIL, "accept": f"application/json;q={DIGITS}", "if-none-match": f'"{EMAIL}"',
        "content-language": EMAIL, EMAIL.replace("@", "-"): PHONE,
    }  # fmt: skip
    json_ = {"content-type": "application/json"}
    who = {"email": EMAIL, "phoneNumber": PHONE}
    bodies: list[tuple[str, bytes, dict[str, str]]] = [
        ("/identify", json.dumps(who).encode(), json_),
        ("/identify", json.dumps({**who, EMAIL: PHONE, key: key}).encode(), json_),
        ("/identify", json.dumps({"email": f"{EMAIL}@{EMAIL}", "phoneNumber": f"{PHONE}-{PHONE}"}).encode(), json_),
        ("/identify", json.dumps(who).encode()[:-1], json_),
        ("/identify", json.dumps([who]).encode(), json_),
        ("/identify", b'{"email": "%b", "email": "%b"}' % (EMAIL.encode(), EMAIL.encode()), json_),
        ("/identify", json.dumps(who).encode() + b"\xff", json_),
        ("/identify", json.dumps(who).encode(), {"content-type": f"text/{LOCAL}"}),
        ("/identify", json.dumps(who).encode(), {**json_, "content-encoding": LOCAL}),
        (f"/identify?email={EMAIL}&key={key}", json.dumps(who).encode(), json_),
        (f"/{EMAIL}/{DIGITS}", b"{}", json_),
        ("/graphql", json.dumps({"query": "{ __typename }", "operationName": EMAIL}).encode(), json_),
        ("/graphql", json.dumps({"query": "{ __typename }", "variables": {EMAIL: PHONE}}).encode(), json_),
        ("/graphql", json.dumps({"query": "{ __typename }", "extensions": {EMAIL: PHONE}}).encode(), json_),
        ("/graphql", json.dumps({"documentId": EMAIL}).encode(), json_),
        ("/graphql", b'{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "%b"}}}' % EMAIL.encode(), json_),
        ("/graphql", json.dumps({"query": who}).encode(), json_),
        ("/graphql", json.dumps({EMAIL: PHONE}).encode(), json_),
        ("/graphql", EMAIL.encode(), json_),
    ]  # fmt: skip
    variable = "query($e: EmailAddress, $i: ID!) { contactFamily(by: {email: $e}) { id } contact(id: $i) { id } }"
    variables: list[dict[str, Any]] = [
        {"e": EMAIL, "i": "1"}, {"e": PHONE, "i": EMAIL}, {"e": [EMAIL], "i": {EMAIL: PHONE}},
        {"e": f"{EMAIL} {EMAIL}"},
    ]  # fmt: skip
    bodies += [("/graphql", json.dumps({"query": variable, "variables": one}).encode(), json_) for one in variables]
    bodies += [("/graphql", json.dumps({"query": query}).encode(), json_) for query in OPERATIONS]
    async with httpx2.AsyncClient(base_url=server.url, headers=credential, timeout=30) as client:
        for path, body, headers in bodies:
            for more in ({}, everywhere):
                note(await client.post(path, content=body, headers={**headers, **more}), told)
        for query in OPERATIONS:
            note(await client.get("/graphql", params={"query": query}), told)
            with_stream = {"accept": "text/event-stream"}
            note(await client.post("/graphql", json={"query": query}, headers=with_stream), told)
            digest = sha256(query.encode()).hexdigest()
            persisted = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
            note(await client.post("/graphql", json={"query": query, "extensions": persisted}), told)
        for path in (f"/graphql?query={EMAIL}&variables={DIGITS}", f"/health?{EMAIL}", f"/metrics?key={key}", "/livez"):
            note(await client.get(path, headers=everywhere), told)


def note(answer: httpx2.Response, told: list[str]) -> None:
    """An answer that tells of a family holds its identifiers: what an error says, and every header, holds none."""
    assert answer.status_code < 500, (answer.request.url.path, answer.text)
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    said = answer.text if answer.status_code >= 400 else ""
    if answer.status_code == 200 and "json" in answer.headers["content-type"]:
        said = json.dumps([answer.json().get("errors"), answer.json().get("extensions")], ensure_ascii=False)
    told.append(f"{headers}\n{said}")


async def send_by_socket(server: ApiServer, credential: dict[str, str], told: list[str]) -> None:
    """Every message with a canary; `told` gets errors and reasons."""
    key = credential.get("authorization", "")
    messages: list[dict[str, Any]] = [
        {"type": "subscribe", "id": EMAIL, "payload": {"query": query}} for query in OPERATIONS[::3]
    ]
    messages += [
        {"type": "subscribe", "id": DIGITS, "payload": {"query": EMAIL, "variables": {"x": PHONE}}},
        {"type": "ping", "payload": {EMAIL: key}},
        {"type": EMAIL},
    ]
    for payload in ({}, {"authorization": key, EMAIL: PHONE}, {"authorization": EMAIL}, EMAIL):
        for message in messages:
            async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_SECONDS):
                client = await shaken(stack, server, [("user-agent", EMAIL)])
                await client.send(json.dumps({"type": "connection_init", "payload": payload}))
                try:
                    await client.recv()
                    await client.send(json.dumps(message))
                    heard = json.loads(await client.recv())
                    if heard["type"] == "error":
                        told.append(json.dumps(heard["payload"], ensure_ascii=False))
                    elif heard["type"] == "next":
                        told.append(json.dumps(heard["payload"].get("errors"), ensure_ascii=False))
                except ConnectionClosed as closed:
                    told.append(f"closed: {closed}")


async def test_canaries_are_found_nowhere(kept: Kept, settings: Settings, pool: Pool) -> None:
    serving, server, logged = kept
    service, reader, operator = [await key_for(settings, role) for role in (Role.SERVICE, Role.READER, Role.ADMIN)]
    user = token(iat=int(time()), exp=int(time() + 300)).decode()
    forged = token(OTHER_RSA, iat=int(time()), exp=int(time() + 300)).decode()
    credentials = [
        {}, *map(bearing, (service, reader, user, forged, FORGED)), {"x-api-key": service}, {"x-api-key": FORGED},
        {"authorization": f"Basic {service}"}, {"authorization": f"Bearer {service}", "x-api-key": service},
    ]  # fmt: skip
    told: list[str] = []
    for credential in credentials:
        await send_by_http(server, credential, told)
    for credential in credentials[1:6]:
        await send_by_socket(server, credential, told)
    assert not any("1011" in one for one in told if one.startswith("closed: ")), "a message broke a socket"
    rows = await pool.fetch("SELECT email, phone_number FROM contacts")
    assert [tuple(row) for row in rows] == [(EMAIL, PHONE)]

    places = {"answers to failed calls, and headers": "\n".join(told)}
    async with httpx2.AsyncClient(base_url=server.url, headers=bearing(operator)) as client:
        places["metrics"] = (await client.get("/metrics")).text
    async with redis.from_url(settings.redis_url.get_secret_value()) as valkey:
        names = [name.decode() async for name in valkey.scan_iter()]
        places["names in Redis"] = "\n".join(names)
        counts = [name for name in names if name.startswith(("nexus:rate", "nexus:peer", "nexus:families"))]
        places["counts in Redis"] = "\n".join([str(await valkey.dump(name)) for name in counts])
    serving.process.terminate()
    await serving.process.wait()  # the last audit entries are stored, the last lines logged
    for table in TABLES:
        rows = await pool.fetch(f"SELECT t::text FROM {table} AS t")
        places[table] = "\n".join(row[0] for row in rows)
    places["log"] = "\n".join(logged)
    needles = [EMAIL, LOCAL, DIGITS, *secrets_of(service, reader, operator, user, forged, FORGED)]
    found = {place: [one for one in needles if one.lower() in text.lower()] for place, text in places.items()}
    assert {place: seen for place, seen in found.items() if seen} == {}
    for place in ("metrics", "names in Redis", "audit_log", "identity_events", "api_keys", "log"):
        assert len(places[place]) > 50, f"there was nothing to find in {place}"
    shown = {event["event"] for event in map(json.loads, logged)}
    assert {"login_failed", "denied", "request_slow"} <= shown
