"""Documents by hash, by id and by URL."""

import asyncio
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

from nexus_graph.api.graphql.engine.persisted import UnusableManifest, read_manifest
from nexus_graph.cache.documents import KEPT_SECONDS, SharedDocuments
from nexus_graph.cache.shared import open_redis
from nexus_graph.config import Settings
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.running import running_api

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


async def kept(settings: Settings) -> None:
    """Return once Redis has a document: it is written behind the answer."""
    async with asyncio.timeout(PATIENCE_SECONDS), Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        while not await redis.keys():
            pass


IDENTIFY = 'mutation Who { identify(input: {email: "ada@example.com"}) { __typename } }'
WRITES = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": sha256(IDENTIFY.encode()).hexdigest()}}}
DONE = {"identify": {"__typename": "IdentifySuccess"}}


@asynccontextmanager
async def silent_redis(settings: Settings) -> AsyncIterator[tuple[Settings, list[bytes]]]:
    """Settings with a Redis that takes what it is asked and answers nothing, and what it was asked."""
    asked: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while found := await reader.read(65_536):
                asked.append(found)
        finally:
            writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{port}/0")}), asked


async def test_a_silent_redis_is_asked_once_and_left_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No identify waits for it: the document is kept behind the answer, and this process knows it from then on."""
    async with silent_redis(settings) as (muted, asked):
        monkeypatch.setattr("nexus_graph.cache.documents.AWAY_SECONDS", 600.0)
        async with serving(muted) as api:
            assert (await api.post("/graphql", json={**WRITES, "query": IDENTIFY})).json()["data"] == DONE
            for _ in range(20):
                assert (await api.post("/graphql", json=WRITES)).json()["data"] == DONE
            began = len(asked)
            unknown = [{**BY_HASH, "extensions": _by_hash(f"{number:064x}")} for number in range(20)]
            for request in unknown:
                assert await code(api, request) == (404, "PERSISTED_QUERY_NOT_FOUND")
            assert len(asked) <= began + 1


async def test_one_request_at_a_time_looks_whether_redis_is_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are told at once that the document is not known."""
    async with silent_redis(settings) as (muted, _):
        monkeypatch.setattr("nexus_graph.cache.documents.TIMEOUT_SECONDS", 600.0)
        documents = SharedDocuments()
        redis = open_redis(muted, timeout_seconds=600.0)
        documents._away_until = 1e-9  # it was away, and its time is over
        probing = asyncio.create_task(documents.find("0" * 64, redis))
        while not documents._under_way:  # noqa: ASYNC110 - a few turns of the loop
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert [await documents.find(f"{number:064x}", redis) for number in range(10)] == [None] * 10
        probing.cancel()
        await asyncio.gather(probing, *documents._under_way, return_exceptions=True)
        await redis.aclose()


async def test_redis_is_asked_again_once_it_is_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = open_redis(settings, timeout_seconds=5.0)
    nowhere = open_redis(
        settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}), timeout_seconds=5.0
    )
    monkeypatch.setattr("nexus_graph.cache.documents.AWAY_SECONDS", 1e-6)
    monkeypatch.setattr("nexus_graph.cache.documents.TIMEOUT_SECONDS", 60.0)
    documents = SharedDocuments()
    documents.keep(HASH, QUERY, redis)
    await kept(settings)
    assert await documents.find(HASH, nowhere) is None
    assert documents._away_until > 0
    assert await documents.find(HASH, redis) == QUERY.encode()
    assert documents._away_until == 0
    await redis.aclose()
    await nowhere.aclose()


def _by_hash(digest: str) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": digest}}


async def test_a_document_is_sent_once_and_known_to_every_process(settings: Settings) -> None:
    async with serving(settings) as api, serving(settings) as other:
        assert await code(api, BY_HASH) == (404, "PERSISTED_QUERY_NOT_FOUND")
        assert (await api.post("/graphql", json=BY_HASH)).status_code == 200  # as older clients want to be told
        assert (await api.post("/graphql", json={**BY_HASH, "query": QUERY})).json() == NOBODY
        await kept(settings)
        for one in (api, other):
            assert (await one.post("/graphql", json=BY_HASH)).json() == NOBODY
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        (key,) = await redis.keys()
        assert key == b"nexus:document:" + HASH.encode()
        assert 0 < await redis.ttl(key) <= KEPT_SECONDS


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
    path.write_text(json.dumps({HASH: QUERY, "of-another-kind": "{ nodes(ids: []) { id } }"}), encoding="utf-8")
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
        for more in ({}, {"query": QUERY}):  # as the links of Apollo and urql for persisted queries send it
            assert (await api.post("/graphql", json={**BY_HASH, **more})).json() == NOBODY
        for name, text in {"of-another-kind": "{ nodes(ids: []) { id } }"}.items():
            persisted = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": name}}}
            assert (await api.post("/graphql", json=persisted)).json()["data"] == {"nodes": []}
            assert (await api.post("/graphql", json={**persisted, "query": text})).json()["data"] == {"nodes": []}
            assert await code(api, {**persisted, "query": "{ __typename }"}) == (422, "BAD_USER_INPUT")
        assert (await api.post("/graphql", json={"query": QUERY, "variables": variables})).json() == NOBODY
        assert await code(api, {"documentId": "another"}) == (404, "DOCUMENT_NOT_FOUND")
        capsys.readouterr()
        other = {"persistedQuery": {"version": 1, "sha256Hash": sha256(b"{ __typename }").hexdigest()}}
        assert await code(api, {"extensions": other}) == (404, "PERSISTED_QUERY_NOT_FOUND")
        if mode == "enforce":
            assert await code(api, {"query": "{ __typename }", "extensions": other}) == (403, "DOCUMENT_NOT_TRUSTED")
            assert await code(api, {"query": "{ __typename }"}) == (403, "DOCUMENT_NOT_TRUSTED")
        else:
            assert (await api.post("/graphql", json={"query": "{ __typename }"})).json()["data"] is not None
        assert ("document_not_trusted" in "".join(capsys.readouterr())) is (mode == "log")


def test_a_manifest_of_apollo_is_read(tmp_path: Path) -> None:
    path = tmp_path / "persisted-query-manifest.json"
    operation = {"id": HASH, "name": "Nobody", "type": "query", "body": QUERY}
    path.write_text(json.dumps({"format": "apollo-persisted-query-manifest", "version": 1, "operations": [operation]}))
    assert read_manifest(path) == {HASH: QUERY}


NO_OPERATIONS: list[object] = [1, {}, {"id": "a"}, {"body": "b"}]
NO_APOLLO: list[dict[str, object]] = [{"operations": [one]} for one in NO_OPERATIONS]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "[]",
        "{",
        '{"a": 1}',
        *(json.dumps({"format": "apollo-persisted-query-manifest", **of}) for of in NO_APOLLO),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "documents.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UnusableManifest, match="documents"):
        read_manifest(path)
