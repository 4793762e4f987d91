"""gql, the Python client: queries and mutations by httpx, subscriptions over a WebSocket. The story of story.js.

python story.py URL PHONE
"""

import asyncio
import json
import sys
from typing import Any

from gql import Client, GraphQLRequest
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

FAMILY = "id version emails"
IDENTIFY = """mutation Identify($input: IdentifyInput!) { identify(input: $input) {
    ... on IdentifySuccess { outcome version family { %s } } ... on UserError { code message } } }"""
READ = """query Family($phone: PhoneNumber!, $version: BigInt) {
    contactFamily(by: { phoneNumber: $phone }, atLeast: $version) { %s } }"""
PAGE = """query Page($phone: PhoneNumber!, $version: BigInt, $after: String) {
    contactFamily(by: { phoneNumber: $phone }, atLeast: $version) {
        id secondaryContacts(first: 3, after: $after) { nodes { id email } pageInfo { hasNextPage endCursor } } } }"""
CHANGES = "subscription Changes($contact: ID!) { familyChanged(contactId: $contact) { %s } }"


async def main(url: str, phone: str) -> None:
    sockets = Client(transport=WebsocketsTransport(url.replace("http", "ws", 1)), fetch_schema_from_transport=True)
    async with (
        Client(transport=HTTPXAsyncTransport(url), fetch_schema_from_transport=True) as session,
        sockets as socket,
    ):

        async def execute(document: str, **variables: Any) -> dict[str, Any]:
            answer: dict[str, Any] = await session.execute(
                GraphQLRequest(document.replace("%s", FAMILY), variable_values=variables)
            )
            return answer

        async def identify(number: int) -> dict[str, Any]:
            person = {"email": f"p{number}@clients.example", "phoneNumber": phone}
            answer: dict[str, Any] = (await execute(IDENTIFY, input=person))["identify"]
            return answer

        written = [await identify(number) for number in range(5)]
        asked = {"phone": phone, "version": written[-1]["version"]}
        family = (await execute(READ, **asked))["contactFamily"]

        pages: list[list[str]] = []
        after = None
        while not pages or after is not None:
            page = (await execute(PAGE, **asked, after=after))["contactFamily"]["secondaryContacts"]
            pages.append([contact["email"] for contact in page["nodes"]])
            after = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None

        sizes: list[int] = []
        changes = GraphQLRequest(CHANGES.replace("%s", FAMILY), variable_values={"contact": family["id"]})
        async for answer in socket.subscribe(changes):
            sizes.append(len(answer["familyChanged"]["emails"]))
            if sizes[-1] == 6:
                break
            if len(sizes) == 1:
                await identify(5)
        outcomes = [answer["outcome"] for answer in written]
        print(json.dumps({"outcomes": outcomes, "emails": family["emails"], "pages": pages, "sizes": sizes}))


asyncio.run(main(*sys.argv[1:]))
