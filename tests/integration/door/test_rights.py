"""The matrix of roles, root fields and transports, made from the schema and run whole; routes of REST and operators."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from graphql import GraphQLSchema

from nexus_graph.api.graphql.schema import schema
from nexus_graph.api.graphql.schema.rights import RIGHTS
from nexus_graph.api.guard import RIGHTS as ROUTES
from nexus_graph.app import create_app
from nexus_graph.config import Settings
from nexus_graph.door.permissions import GRANTS, Permission, Role
from tests.stage.callers import calling, guarded_api
from tests.stage.running import ApiServer, both_ways
from tests.stage.transports import STREAMS, TRANSPORTS, told

ADA = {"email": "ada@example.com", "phoneNumber": "123456"}
SAMPLES = {
    "Query.contactFamily": '{ contactFamily(by: {email: "ada@example.com"}) { id } }',
    "Query.contact": '{ contact(id: "1") { id } }',
    "Query.node": '{ node(id: "Q29udGFjdDox") { id } }',
    "Query.nodes": '{ nodes(ids: ["Q29udGFjdDox"]) { id } }',
    "Query.contacts": "{ contacts { nodes { id } } }",
    "Query.identityEvents": '{ identityEvents(contactId: "1") { nodes { id } } }',
    "Query.rateLimit": "{ rateLimit { limit } }",
    "Query._service": "{ _service { sdl } }",
    "Query._entities": '{ _entities(representations: [{__typename: "Contact", id: "Q29udGFjdDox"}]) { __typename } }',
    "Mutation.identify": 'mutation { identify(input: {email: "ada@example.com"}) { __typename } }',
    "Subscription.identityEvents": "subscription { identityEvents(after: 0) { sequence } }",
    "Subscription.familyChanged": 'subscription { familyChanged(contactId: "1") { id } }',
}
"""A document that asks for each root field. A field without one fails the test."""


def root_fields(served: GraphQLSchema) -> list[str]:
    roots = (served.query_type, served.mutation_type, served.subscription_type)
    return [f"{root.name}.{field}" for root in roots if root for field in root.fields]


def test_every_root_field_has_a_right_and_a_sample() -> None:
    fields = root_fields(schema(federated=True))
    assert set(fields) == set(RIGHTS) == set(SAMPLES)


def test_every_route_has_a_right_and_every_right_a_route() -> None:
    routes = create_app(Settings(auth="on")).routes
    paths = {str(getattr(route, "path", "")) for route in routes}
    assert {re.sub(r"^/v\d+(\.\d+)?(?=/)", "", path) for path in paths} == set(ROUTES)


@pytest.fixture
async def server(settings: Settings, keys: dict[Role, str], tmp_path: Any) -> AsyncIterator[ApiServer]:
    manifest = tmp_path / "trusted.json"
    manifest.write_text(json.dumps(dict(SAMPLES)), encoding="utf-8")
    async with guarded_api(settings, trusted_documents=manifest, graphql_federation=True) as server:
        async with calling(server, keys[Role.ADMIN]) as admin:
            (await admin.post("/identify", json=ADA)).raise_for_status()
        yield server


async def answer(server: ApiServer, transport: str, field: str, key: str | None) -> dict[str, Any]:
    """The first answer to the field's sample, as {"status", "code"}: code of the first error, None if there is none."""
    found = await told(server, transport, SAMPLES[field], key, document_id=field)
    return {"status": found.status, "code": _code(found.json)}


def _code(answer: dict[str, Any]) -> str | None:
    errors = answer.get("errors")
    return errors[0]["extensions"]["code"] if errors else None


def _is_served(transport: str, field: str) -> bool:
    operation = field.partition(".")[0]
    if operation == "Subscription":
        return transport in STREAMS
    return operation == "Query" or transport != "GET"


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_may_what_the_table_says(server: ApiServer, keys: dict[Role, str], role: Role) -> None:
    key = keys[role]
    wrong = []
    for field in SAMPLES:
        right = RIGHTS[field]
        wanted = None if right is None or right[0] in GRANTS[role] else "FORBIDDEN"
        for transport in TRANSPORTS:
            if _is_served(transport, field):
                found = await answer(server, transport, field, key)
                if found != {"status": 200, "code": wanted}:
                    wrong.append((transport, field, found, wanted))
    assert wrong == []


@both_ways
async def test_without_credentials_nothing_is_parsed(server: ApiServer) -> None:
    for headers in ({}, {"authorization": "Bearer nxk_000000000000_" + "0" * 72}, {"x-api-key": "nonsense"}):
        async with calling(server, None, **headers) as client:
            for body in (b'{"query": "{ __typename }"}', b"{", b"[1]"):
                refused = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
                assert (refused.status_code, _code(refused.json())) == (401, "UNAUTHENTICATED")
                assert refused.headers["www-authenticate"].startswith("Bearer")
            refused = await client.post("/identify", json=ADA)
            assert refused.status_code == 401
            assert refused.json()["code"] == "UNAUTHENTICATED"
            assert ("invalid_token" in refused.headers["www-authenticate"]) == bool(headers)


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_may_use_the_routes_that_the_table_says(
    server: ApiServer, keys: dict[Role, str], role: Role
) -> None:
    async with calling(server, keys[role]) as client:
        identified = await client.post("/identify", json=ADA)
        assert identified.status_code == (200 if Permission.IDENTIFY in GRANTS[role] else 403)
        metrics = await client.get("/metrics")
        assert metrics.status_code == (200 if Permission.OPERATE in GRANTS[role] else 403)
        health = (await client.get("/health")).json()
        assert ("checks" in health) == (Permission.OPERATE in GRANTS[role])
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/nowhere")).status_code == 404


async def test_strangers_see_health_in_brief_and_no_other_route(server: ApiServer) -> None:
    async with calling(server, None) as client:
        assert (await client.get("/health")).json().keys() == {"status"}
        assert (await client.get("/readyz")).json().keys() == {"status"}
        assert (await client.get("/livez")).status_code == 200
        for path in ("/", "/metrics", "/nowhere", "/neo4j/guide.html", "/graphql/assets/x"):
            assert (await client.get(path)).status_code == 401, path


async def test_two_credentials_are_refused(server: ApiServer, keys: dict[Role, str]) -> None:
    key = keys[Role.SERVICE]
    for headers in (
        [("authorization", f"Bearer {key}"), ("x-api-key", key)],
        [("authorization", f"Bearer {key}"), ("authorization", f"Bearer {key}")],
        [("x-api-key", key), ("x-api-key", key)],
    ):
        async with httpx2.AsyncClient(base_url=server.url) as client:
            assert (await client.post("/identify", json=ADA, headers=headers)).status_code == 400
    async with httpx2.AsyncClient(base_url=server.url) as client:
        assert (await client.post("/identify", json=ADA, headers={"x-api-key": key})).status_code == 200
