"""Documents by hash, by id and by URL."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from nexus_graph.api.graphql.persisted import UnusableManifest, read_manifest
from nexus_graph.config import Settings
from tests.running import running_api

QUERY = "query Nobody($by: FamilyLookup!) { contactFamily(by: $by) { id } }"
HASH = sha256(QUERY.encode()).hexdigest()
BY_HASH = {
    "extensions": {"persistedQuery": {"version": 1, "sha256Hash": HASH}},
    "variables": {"by": {"email": "a@b.c"}},
}
NOBODY = {"data": {"contactFamily": None}, "extensions": {"cost": {"requested": 1, "max": 5000}}}


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url) as api:
        yield api


async def code(api: httpx2.AsyncClient, request: dict[str, Any]) -> tuple[int, str]:
    answer = await api.post("/graphql", json=request, headers={"accept": "application/graphql-response+json"})
    (error,) = answer.json()["errors"]
    return answer.status_code, error["extensions"]["code"]


async def test_a_document_is_sent_once_and_known_to_every_process(settings: Settings) -> None:
    async with serving(settings) as api, serving(settings) as other:
        assert await code(api, BY_HASH) == (404, "PERSISTED_QUERY_NOT_FOUND")
        assert (await api.post("/graphql", json=BY_HASH)).status_code == 200  # as older clients want to be told
        assert (await api.post("/graphql", json={**BY_HASH, "query": QUERY})).json() == NOBODY
        for one in (api, other):
            assert (await one.post("/graphql", json=BY_HASH)).json() == NOBODY
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        (key,) = await redis.keys()
        assert key == b"nexus:document:" + HASH.encode()
        assert 0 < await redis.ttl(key) <= settings.graphql_persisted_seconds


async def test_a_hash_of_another_document_or_a_forged_text_is_refused(settings: Settings) -> None:
    async with serving(settings) as api, Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        assert await code(api, {**BY_HASH, "query": "{ __typename }"}) == (422, "BAD_USER_INPUT")
        assert await code(api, {**BY_HASH, "extensions": {"persistedQuery": {"version": 2}}}) == (422, "BAD_USER_INPUT")
        await redis.set("nexus:document:" + HASH, "{ __typename }")
        assert await code(api, BY_HASH) == (404, "PERSISTED_QUERY_NOT_FOUND")
        await redis.flushall()
        bad = "{ nothing }"
        persisted = {"persistedQuery": {"version": 1, "sha256Hash": sha256(bad.encode()).hexdigest()}}
        assert await code(api, {"query": bad, "extensions": persisted}) == (422, "GRAPHQL_VALIDATION_FAILED")
        assert await redis.keys() == []


async def test_without_redis_the_client_sends_the_document(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})) as api:
        assert await code(api, BY_HASH) == (404, "PERSISTED_QUERY_NOT_FOUND")
        assert (await api.post("/graphql", json={**BY_HASH, "query": QUERY})).json() == NOBODY
        assert (await api.post("/graphql", json=BY_HASH)).json() == NOBODY  # this process remembers by itself


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "documents.json"
    path.write_text(json.dumps({HASH: QUERY}), encoding="utf-8")
    return path


@pytest.mark.parametrize("mode", ["off", "log", "enforce"])
async def test_trusted_documents_by_mode(
    settings: Settings, manifest: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trusting = settings.model_copy(update={"trusted_documents": manifest, "trusted_documents_mode": mode})
    variables = BY_HASH["variables"]
    async with serving(trusting) as api:
        for document_id in (HASH, f"sha256:{HASH}"):
            answer = await api.post("/graphql", json={"documentId": document_id, "variables": variables})
            assert answer.json() == NOBODY
        assert (await api.post("/graphql", json={"query": QUERY, "variables": variables})).json() == NOBODY
        assert await code(api, {"documentId": "another"}) == (404, "DOCUMENT_NOT_FOUND")
        capsys.readouterr()
        if mode == "enforce":
            assert await code(api, {"query": "{ __typename }"}) == (403, "DOCUMENT_NOT_TRUSTED")
        else:
            assert (await api.post("/graphql", json={"query": "{ __typename }"})).json()["data"] is not None
        assert ("document_not_trusted" in "".join(capsys.readouterr())) is (mode == "log")


@pytest.mark.parametrize("text", [None, "[]", "{", '{"a": 1}'])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "documents.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UnusableManifest, match="documents"):
        read_manifest(path)


async def test_queries_by_url_where_they_are_let(settings: Settings, api: httpx2.AsyncClient) -> None:
    asked = {"query": QUERY, "variables": json.dumps(BY_HASH["variables"]), "operationName": "Nobody"}
    assert (await api.get("/graphql", params=asked)).status_code == 405
    async with serving(settings.model_copy(update={"graphql_get": True})) as gets:
        assert (await gets.get("/graphql", params=asked)).json() == NOBODY
        writes = await gets.get(
            "/graphql", params={"query": 'mutation { identify(input: {email: "a@b.c"}) { __typename } }'}
        )
        assert (writes.status_code, writes.headers["allow"]) == (405, "POST")
        for wrong in (f"query={QUERY}&variables={{", f"query={QUERY}&variables=[]", "", "query=%ED%A0%80", "query=%FF"):
            answer = await gets.get(f"/graphql?{wrong}", headers={"accept": "application/graphql-response+json"})
            assert 400 <= answer.status_code < 500, wrong
