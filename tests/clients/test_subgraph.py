"""The API as a subgraph: composed with another one, and asked as a router asks it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from nexus_graph.api.cursors import CONTACT, FAMILY, encode_id
from nexus_graph.config import Settings
from tests.stage.commands import told
from tests.stage.running import running_api

ENTITIES = """
query ($representations: [_Any!]!) {
  _entities(representations: $representations) {
    __typename
    ... on Contact { email }
    ... on ContactFamily { emails }
  }
}
"""


@pytest.fixture
async def subgraph(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    federated = settings.model_copy(update={"graphql_federation": True})
    async with running_api(federated) as server, httpx2.AsyncClient(base_url=server.url) as api:
        yield api


async def entities(api: httpx2.AsyncClient, *keys: object) -> dict[str, Any]:
    answer = await api.post("/graphql", json={"query": ENTITIES, "variables": {"representations": keys}})
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    return told


async def test_it_composes_with_another_subgraph(subgraph: httpx2.AsyncClient, judges: Path, tmp_path: Path) -> None:
    answer = await subgraph.post("/graphql", json={"query": "{ _service { sdl } }"})
    schema = tmp_path / "subgraph.graphql"
    schema.write_text(answer.json()["data"]["_service"]["sdl"], encoding="utf-8")
    supergraph = await told("node", "compose.js", schema, cwd=judges)
    assert '@join__type(graph: IDENTITY, key: "id")' in supergraph
    assert '@join__type(graph: ORDERS, key: "id", resolvable: false)' in supergraph


async def test_a_router_asks_for_entities(subgraph: httpx2.AsyncClient) -> None:
    await subgraph.post("/identify", json={"email": "a@b.c", "phoneNumber": "123"})
    answer = await entities(
        subgraph,
        {"__typename": "Contact", "id": encode_id(CONTACT, 1)},
        {"__typename": "Contact", "id": encode_id(CONTACT, 999)},
        {"__typename": "ContactFamily", "id": encode_id(FAMILY, 1)},
    )
    assert answer == {
        "data": {
            "_entities": [
                {"__typename": "Contact", "email": "a@b.c"},
                None,
                {"__typename": "ContactFamily", "emails": ["a@b.c"]},
            ]
        },
        "extensions": {"cost": {"requested": 3, "max": 5000}},
    }


@pytest.mark.parametrize(
    "key",
    [
        None,
        "Contact",
        [],
        {},
        {"__typename": "Contact"},
        {"__typename": "Contact", "id": 1},
        {"__typename": "Contact", "id": "1"},
        {"__typename": "Contact", "id": encode_id(FAMILY, 1)},
        {"__typename": "Query", "id": encode_id(CONTACT, 1)},
        {"__typename": ["Contact"], "id": encode_id(CONTACT, 1)},
    ],
)
async def test_what_is_no_key_is_refused(subgraph: httpx2.AsyncClient, key: object) -> None:
    (error,) = (await entities(subgraph, key))["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT" or key is None


async def test_entities_are_bounded(subgraph: httpx2.AsyncClient, settings: Settings) -> None:
    key = {"__typename": "Contact", "id": encode_id(CONTACT, 1)}
    (error,) = (await entities(subgraph, *[key] * (settings.page_max + 1)))["errors"]
    assert error["extensions"] == {"code": "PAGE_TOO_LARGE", "fields": ["representations"]}


async def test_without_the_setting_there_is_no_subgraph(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/graphql", json={"query": "{ _service { sdl } }"})
    assert answer.json()["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
