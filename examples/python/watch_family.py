"""Prints the family of a contact at once, and again whenever it changes, until Ctrl-C.

    python watch_family.py CONTACT_ID

Needs gql with its websockets transport: `pip install 'gql[websockets]'`.
"""

import asyncio
import os
import sys

from gql import Client, GraphQLRequest
from gql.transport.websockets import WebsocketsTransport

URL = os.environ.get("NEXUS_GRAPH_URL", "http://127.0.0.1:8000/graphql")

FAMILY_CHANGED = """
    subscription FamilyChanged($contactId: ID!) {
      familyChanged(contactId: $contactId) { version emails phoneNumbers }
    }
"""


async def main(contact_id: str) -> None:
    asked = GraphQLRequest(FAMILY_CHANGED, variable_values={"contactId": contact_id})
    async with Client(transport=WebsocketsTransport(URL.replace("http", "ws", 1))) as session:
        async for answer in session.subscribe(asked):
            family = answer["familyChanged"]
            told = f"{', '.join(family['emails'])} by {', '.join(family['phoneNumbers'])}" if family else "gone"
            print(told, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
