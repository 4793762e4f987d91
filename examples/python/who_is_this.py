"""Who is this, and whom else do we know them as? Prints the family as it is after this very write.

    python who_is_this.py EMAIL PHONE

Needs gql with its httpx transport: `pip install 'gql[httpx]'`.
"""

import asyncio
import os
import sys
from typing import Any

from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.httpx import HTTPXAsyncTransport

URL = os.environ.get("NEXUS_GRAPH_URL", "http://127.0.0.1:8000/graphql")

IDENTIFY = """
    mutation Identify($input: IdentifyInput!) {
      identify(input: $input) {
        ... on IdentifySuccess { outcome version family { id } }
        ... on UserError { code message field }
      }
    }
"""

FAMILY = """
    query Family($contactId: ID!, $atLeast: BigInt!) {
      contactFamily(by: {contactId: $contactId}, atLeast: $atLeast) {
        emails
        phoneNumbers
        primaryContact { email }
        secondaryContacts(first: 10) { totalCount }
      }
    }
"""


async def ask(session: AsyncClientSession, document: str, **variables: object) -> dict[str, Any]:
    """The data. Raises TransportQueryError with what the API says when the document cannot be executed."""
    return await session.execute(GraphQLRequest(document, variable_values=variables))


async def main(email: str, phone_number: str) -> None:
    async with Client(transport=HTTPXAsyncTransport(URL)) as session:
        identified = (await ask(session, IDENTIFY, input={"email": email, "phoneNumber": phone_number}))["identify"]
        if "code" in identified:
            sys.exit(f"{identified['code']}: {identified['message']}")
        family_id, version = identified["family"]["id"], identified["version"]
        family = (await ask(session, FAMILY, contactId=family_id, atLeast=version))["contactFamily"]
    print(f"{identified['outcome']}: {', '.join(family['emails'])} by {', '.join(family['phoneNumbers'])}")
    print(f"{family['primaryContact']['email']} and {family['secondaryContacts']['totalCount']} more")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
