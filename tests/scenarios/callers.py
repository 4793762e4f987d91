"""The two ways in, made to look alike: what a caller asks, what it is told."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import httpx2

IDENTIFY = """
mutation Identify($input: IdentifyInput!) {
  identify(input: $input) {
    ... on IdentifySuccess { outcome reason version family { ...Whole } }
    ... on UserError { code message field }
  }
}
fragment Whole on ContactFamily {
  source
  version
  emails
  phoneNumbers
  primaryContact { databaseId linkPrecedence }
  secondaryContacts(first: 100) { nodes { databaseId linkPrecedence } totalCount }
}
"""

CONTACT_FAMILY = """
query Family($by: FamilyLookup!, $atLeast: BigInt, $source: FamilySource) {
  contactFamily(by: $by, atLeast: $atLeast, source: $source) {
    source
    version
    emails
    phoneNumbers
    primaryContact { databaseId linkPrecedence }
    secondaryContacts(first: 100) { nodes { databaseId linkPrecedence } totalCount }
  }
}
"""


@dataclass(frozen=True)
class FamilySeen:
    """A family as a client sees it."""

    primary: int
    secondaries: list[int]
    emails: list[str]
    phones: list[str]


@dataclass(frozen=True)
class Answer:
    """What identify told: an outcome and a family, or an error."""

    outcome: str | None = None
    family: FamilySeen | None = None
    code: str | None = None
    message: str = ""
    fields: tuple[str, ...] = ()


class Caller(Protocol):
    """A client of one transport."""

    name: ClassVar[str]

    async def identify(self, request: dict[str, Any]) -> Answer:
        """Send the members of `request` as they are."""


class RestCaller:
    """POST /identify."""

    name: ClassVar[str] = "rest"

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def identify(self, request: dict[str, Any]) -> Answer:
        response = await self._client.post("/identify", json=request)
        told = response.json()
        if response.status_code != 200:
            assert response.headers["content-type"] == "application/problem+json"
            assert told["status"] == response.status_code
            fields = tuple(fault["field"] for fault in told["errors"])
            return Answer(code=told["code"], message=told["detail"], fields=fields)
        contact = told["contact"]
        assert contact["primaryContatctId"] == contact["primaryContactId"]
        return Answer(
            outcome=response.headers["Nexus-Outcome"],
            family=FamilySeen(
                contact["primaryContactId"],
                contact["secondaryContactIds"],
                contact["emails"],
                contact["phoneNumbers"],
            ),
        )


class GraphQLCaller:
    """POST /graphql."""

    name: ClassVar[str] = "graphql"

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def identify(self, request: dict[str, Any]) -> Answer:
        told = (await self.execute(IDENTIFY, {"input": request}))["identify"]
        if "family" in told:
            assert told["version"] == told["family"]["version"]
            assert (told["outcome"] == "REFUSED") == (told["reason"] is not None)
            return Answer(outcome=told["outcome"], family=family_seen(told["family"]))
        return Answer(code=told["code"], message=told["message"], fields=(told["field"],) if told["field"] else ())

    async def execute(self, document: str, variables: dict[str, Any]) -> Any:
        """The data of an operation that meets no error."""
        response = await self._client.post("/graphql", json={"query": document, "variables": variables})
        told = response.json()
        assert response.status_code == 200, told
        assert "errors" not in told, told
        return told["data"]


def family_seen(told: dict[str, Any]) -> FamilySeen:
    """The family in a GraphQL answer."""
    secondaries = told["secondaryContacts"]
    assert told["primaryContact"]["linkPrecedence"] == "PRIMARY"
    assert all(node["linkPrecedence"] == "SECONDARY" for node in secondaries["nodes"])
    assert secondaries["totalCount"] == len(secondaries["nodes"])
    return FamilySeen(
        told["primaryContact"]["databaseId"],
        [node["databaseId"] for node in secondaries["nodes"]],
        told["emails"],
        told["phoneNumbers"],
    )
