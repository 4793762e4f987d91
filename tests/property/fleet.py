"""Many clients at once, over HTTP, on several API processes' worth of servers; what they asked and were told."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

from bench.load.client import HttpClient, Response
from nexus_graph.config import Settings
from tests.property.history import Answered
from tests.stage.running import ApiServer, running_api

CLIENTS = 32
CALLS = 3_000
PAGE = 1_000

_IDENTIFY = """mutation ($input: IdentifyInput!) { identify(input: $input) { __typename ... on IdentifySuccess {
  outcome version family { emails phoneNumbers primaryContact { databaseId }
  secondaryContacts(first: 1000) { nodes { databaseId } pageInfo { hasNextPage } } } } } }"""


@asynccontextmanager
async def fleet(settings: Settings, servers: int) -> AsyncIterator[list[ApiServer]]:
    # Families grow large here: neither the limit of a family nor that of a page is the subject.
    roomy = settings.model_copy(update={"family_limit_contacts": 100_000, "page_max": PAGE})
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running_api(roomy)) for _ in range(servers)]


async def record_history(
    servers: list[ApiServer], *, keys: int, seed: int, graphql: bool = False, count: int = CALLS
) -> list[Answered]:
    """`count` identify calls by CLIENTS clients, each picking among `keys` emails and `keys` phones.

    Calls whose outcome stays unknown (5xx) are left out: they may or may not have happened. A correct build has none.
    """
    random_source = random.Random(seed)
    calls = iter([_random_call(random_source, keys) for _ in range(count)])
    history: list[Answered] = []

    async def client(server: ApiServer) -> None:
        async with HttpClient(server.host, server.port) as http:
            for email, phone in calls:
                answered = await _call(http, email, phone, graphql=graphql)
                if answered is not None:
                    history.append(answered)

    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(client(servers[number % len(servers)]))
    return history


def _random_call(random_source: random.Random, keys: int) -> tuple[str | None, str | None]:
    email = f"e{random_source.randrange(keys)}@example.com" if random_source.random() < 0.9 else None
    phone = f"555{random_source.randrange(keys):06}" if email is None or random_source.random() < 0.9 else None
    return email, phone


async def _call(http: HttpClient, email: str | None, phone: str | None, *, graphql: bool) -> Answered | None:
    if not graphql:
        return await identify_by_rest(http, email, phone)
    body = json.dumps({"query": _IDENTIFY, "variables": {"input": {"email": email, "phoneNumber": phone}}}).encode()
    sent = monotonic()
    status, _, answer = await http.post("/graphql", body)
    answered = monotonic()
    if status != 200:
        return None
    return _answered_by_graphql(sent, answered, email, phone, json.loads(answer)["data"]["identify"])


async def identify_by_rest(
    http: HttpClient, email: str | None, phone: str | None, *, refused: Callable[[Response], None] = lambda _: None
) -> Answered | None:
    """One call; None, and the response goes to `refused`, unless its status is 200."""
    sent = monotonic()
    response = await http.post("/identify", json.dumps({"email": email, "phoneNumber": phone}).encode())
    answered = monotonic()
    if response.status != 200:
        refused(response)
        return None
    contact = json.loads(response.body)["contact"]
    contacts = (contact["primaryContactId"], *contact["secondaryContactIds"])
    return Answered(sent, answered, email, phone, contacts, tuple(contact["emails"]), tuple(contact["phoneNumbers"]))


def _answered_by_graphql(
    sent: float, answered: float, email: str | None, phone: str | None, told: dict[str, Any]
) -> Answered | None:
    if told["__typename"] != "IdentifySuccess":
        return None
    family = told["family"]
    secondaries = family["secondaryContacts"]
    # The replay needs families whole.
    assert not secondaries["pageInfo"]["hasNextPage"]
    contacts = (family["primaryContact"]["databaseId"], *(node["databaseId"] for node in secondaries["nodes"]))
    return Answered(
        sent,
        answered,
        email,
        phone,
        contacts,
        tuple(family["emails"]),
        tuple(family["phoneNumbers"]),
        told["outcome"],
        told["version"],
    )
