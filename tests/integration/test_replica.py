"""Reads by a streaming replica: what it may answer, what it must not, and what becomes of reads when it is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from nexus_graph.config import Settings
from nexus_graph.devstack.stack import StackUrls
from nexus_graph.errors import Unavailable
from nexus_graph.identity.opening import Identity, open_identity
from nexus_graph.model import ContactFilter, Family, FamilyKey, IdentifyRequest, Outcome, Source
from nexus_graph.store.database import Pool
from nexus_graph.store.replica import Replica
from tests.stage.graphing import PATIENCE_SECONDS, Gate
from tests.stage.running import running_api
from tests.stage.standby import Standby, running_standby

ADA = FamilyKey("email", "ada@example.com")
BOB = FamilyKey("email", "bob@example.com")
NOWHERE = "postgresql://postgres@127.0.0.1:9/nexus"  # the discard port: nothing listens there
EVERYBODY = ContactFilter(None, None, None, None)


@pytest.fixture(scope="module")
async def standby(servers: StackUrls) -> AsyncIterator[Standby]:
    """Not for the whole session: it would replay what all other tests write."""
    async with running_standby(servers.database_url) as standby:
        yield standby


@pytest.fixture
async def replicated(
    settings: Settings, pool: Pool, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Settings]:
    """Settings with a replica that has this test's database. No relay is at work, so the record answers."""
    monkeypatch.setattr("nexus_graph.graph.reads.WAIT_MAX_SECONDS", 0.0)
    await standby.caught_up(pool)
    url = SecretStr(standby.url(database_of(settings)))
    try:
        yield settings.model_copy(update={"database_replica_url": url})
    finally:
        await standby.mend()


@pytest.fixture
async def identity(replicated: Settings) -> AsyncIterator[Identity]:
    async with opened(replicated) as identity:
        yield identity


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Identity]:
    """The verbs, once the replica is asked."""
    async with open_identity(settings) as identity:
        await joined(identity)
        yield identity


async def joined(identity: Identity) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await replica_of(identity).joined.wait()


def replica_of(identity: Identity) -> Replica:
    assert identity.replica is not None
    return identity.replica


def database_of(settings: Settings) -> str:
    return urlsplit(settings.database_url.get_secret_value()).path.lstrip("/")


def request(email: str, phone: str | None = None) -> IdentifyRequest:
    return IdentifyRequest(email, phone)


def emails(family: Family | None) -> list[str]:
    assert family is not None
    return list(family.emails)


def reads(server: str, fallback: str = "none") -> float:
    labels = {"server": server, "fallback": fallback}
    return REGISTRY.get_sample_value("nexus_record_reads_total", labels) or 0.0


async def test_the_replica_answers_what_may_be_older(identity: Identity, pool: Pool, standby: Standby) -> None:
    await identity.identify(request("ada@example.com", "123456"))
    await standby.caught_up(pool)
    await standby.pause()
    newer = (await identity.identify(request("ada.l@example.com", "123456"))).family

    by_replica, by_primary = reads("replica"), reads("primary")
    for source in (None, Source.RECORD):
        assert emails(await identity.families.family(ADA, source=source)) == ["ada@example.com"]
    assert len(await identity.listing.contacts(EVERYBODY, after=None, limit=10)) == 1
    assert await identity.listing.count_contacts(EVERYBODY) == 1
    assert len(await identity.listing.events(None, after=0, limit=10)) == 1
    assert len(await identity.listing.events(newer.id, after=0, limit=10)) == 1
    assert await identity.listing.count_events(None) == 1
    assert reads("replica") == by_replica + 7
    assert reads("primary") == by_primary

    await standby.resume()
    await standby.caught_up(pool)
    assert emails(await identity.families.family(ADA)) == ["ada@example.com", "ada.l@example.com"]
    assert len(await identity.listing.events(None, after=0, limit=10)) == 2


@pytest.mark.parametrize("source", [None, Source.RECORD])
async def test_who_demands_a_version_is_never_told_an_older_one(
    identity: Identity, pool: Pool, standby: Standby, source: Source | None
) -> None:
    older = (await identity.identify(request("ada@example.com", "123456"))).family
    await standby.caught_up(pool)
    await standby.pause()
    newer = (await identity.identify(request("ada.l@example.com", "123456"))).family

    behind, by_replica = reads("primary", "behind"), reads("replica")
    assert await identity.families.family(ADA, at_least=newer.version, source=source) == newer
    assert reads("primary", "behind") == behind + 1
    assert await identity.families.family(ADA, at_least=older.version, source=source) == older
    assert reads("replica") == by_replica + 1

    await standby.resume()
    await standby.caught_up(pool)
    assert await identity.families.family(ADA, at_least=newer.version, source=source) == newer
    assert reads("replica") == by_replica + 2
    assert reads("primary", "behind") == behind + 1


async def test_a_family_that_the_replica_has_not_heard_of_is_found(identity: Identity, standby: Standby) -> None:
    await standby.pause()
    family = (await identity.identify(request("ada@example.com"))).family
    assert await identity.families.family(ADA) == family
    assert await identity.families.family(FamilyKey("contact", family.id)) == family
    assert await identity.families.family(BOB) is None


async def test_identify_never_asks_the_replica(identity: Identity, pool: Pool, standby: Standby) -> None:
    await identity.identify(request("ada@example.com", "123456"))
    await standby.caught_up(pool)
    await standby.pause()
    for email in ("a@example.com", "b@example.com"):
        linked = await identity.identify(request(email, "123456"))
        assert linked.outcome is Outcome.LINKED
        again = await identity.identify(request(email, "123456"))
        assert (again.outcome, again.family) == (Outcome.MATCHED, linked.family)
    await standby.kill()
    merged = await identity.identify(request("ada@example.com"))
    assert len(merged.family.contacts) == 3


async def test_followers_hear_what_the_replica_has_not(identity: Identity, pool: Pool, standby: Standby) -> None:
    family = (await identity.identify(request("ada@example.com", "123456"))).family
    await standby.caught_up(pool)
    await standby.pause()
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        aclosing(identity.feed.family(family.id)) as states,
        aclosing(identity.feed.events(family.version)) as batches,
    ):
        assert await anext(states) == family
        newer = (await identity.identify(request("ada.l@example.com", "123456"))).family
        assert await anext(states) == newer
        assert [event.sequence for event in await anext(batches)] == [newer.version]


async def test_what_is_cached_was_read_from_the_primary(replicated: Settings, pool: Pool, standby: Standby) -> None:
    async with opened(replicated.model_copy(update={"cache": "process"})) as identity:
        await identity.identify(request("ada@example.com", "123456"))
        await standby.caught_up(pool)
        await standby.pause()
        newer = (await identity.identify(request("ada.l@example.com", "123456"))).family
        assert await identity.families.family(ADA) == newer


async def test_everybody_reads_what_they_wrote(identity: Identity, standby: Standby) -> None:
    """While the replica follows as fast as it can, and in between not at all."""
    by_replica, behind = reads("replica"), reads("primary", "behind")

    async def writer(number: int) -> None:
        for turn in range(40):
            answer = await identity.identify(request(f"w{number}-{turn}@example.com", f"55500{number:02}"))
            read = await identity.families.family(
                FamilyKey("contact", answer.family.id), at_least=answer.family.version
            )
            assert read is not None
            assert read.version >= answer.family.version
            assert set(answer.family.emails) <= set(read.emails)
            if number == 0 and turn == 10:
                await standby.pause()
            if number == 0 and turn == 30:
                await standby.resume()

    async with asyncio.TaskGroup() as writers:
        for number in range(8):
            writers.create_task(writer(number))
    assert reads("primary", "behind") > behind
    print(f"by the replica: {reads('replica') - by_replica}, behind: {reads('primary', 'behind') - behind}")


async def test_a_replica_that_dies_is_not_missed(identity: Identity, pool: Pool, standby: Standby) -> None:
    family = (await identity.identify(request("ada@example.com"))).family
    await standby.caught_up(pool)
    assert await identity.families.family(ADA) == family
    away = reads("primary", "away")
    await standby.kill()
    assert await identity.families.family(ADA) == family
    assert len(await identity.listing.contacts(EVERYBODY, after=None, limit=10)) == 1
    assert not replica_of(identity).joined.is_set()
    assert reads("primary", "away") == away + 2

    await standby.mend()
    await joined(identity)
    by_replica = reads("replica")
    assert await identity.families.family(ADA) == family
    assert reads("replica") == by_replica + 1


async def test_a_replica_that_stalls_costs_its_readers_one_wait(
    replicated: Settings, pool: Pool, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.store.replica.AWAY_SECONDS", 3_600.0)
    monkeypatch.setattr("nexus_graph.store.replica.TIMEOUT_SECONDS", 0.2)
    async with opened(replicated) as identity:
        family = (await identity.identify(request("ada@example.com"))).family
        await standby.caught_up(pool)
        away, by_replica = reads("primary", "away"), reads("replica")
        with standby.stalled(await standby.sessions(database_of(replicated))):
            assert await identity.families.family(ADA) == family
            assert not replica_of(identity).joined.is_set()
            assert await identity.families.family(ADA) == family
        assert await identity.families.family(ADA) == family
        assert reads("primary", "away") == away + 3
        assert reads("replica") == by_replica


async def test_the_replica_goes_on_answering_while_the_primary_is_away(
    replicated: Settings, pool: Pool, standby: Standby
) -> None:
    primary = urlsplit(replicated.database_url.get_secret_value())
    assert primary.hostname is not None
    assert primary.port is not None
    gate = Gate(primary.hostname, primary.port)
    await gate.start()
    gated = primary._replace(netloc=primary.netloc.replace(str(primary.port), str(gate.port))).geturl()
    async with opened(replicated.model_copy(update={"database_url": SecretStr(gated)})) as identity:
        family = (await identity.identify(request("ada@example.com"))).family
        await standby.caught_up(pool)
        await gate.stop()
        assert await identity.families.family(ADA, at_least=family.version) == family
        assert len(await identity.listing.contacts(EVERYBODY, after=None, limit=10)) == 1
        for refused in (identity.families.family(ADA, at_least=family.version + 1), identity.families.family(BOB)):
            with pytest.raises(Unavailable):
                await refused


async def test_a_statement_that_the_replica_refuses_is_answered_by_the_primary(
    identity: Identity, pool: Pool, standby: Standby
) -> None:
    family = (await identity.identify(request("ada@example.com"))).family
    await standby.caught_up(pool)
    await standby.pause()
    # What a new release reads may not have reached it yet.
    await pool.execute("CREATE TABLE later (id integer); GRANT SELECT ON later TO nexus_api")
    replica = replica_of(identity)
    with pytest.raises(Unavailable, match="does not answer"):
        await replica.fetch("SELECT id FROM later")
    assert replica.joined.is_set()
    assert await identity.families.family(ADA) == family


async def test_health_tells_of_a_replica_where_there_is_one(
    replicated: Settings, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.api.ops.REMEMBERED_SECONDS", 0.0)
    async with running_api(replicated) as server, httpx2.AsyncClient(base_url=server.url, timeout=10) as api:
        servers = ("postgres", "neo4j", "redis", "relay", "replica")
        assert await health(api, until="ok") == dict.fromkeys(servers, "ok")
        await standby.kill()
        assert (await health(api, until="degraded"))["replica"] == "down"
        assert (await api.get("/readyz")).status_code == 200
        await standby.mend()
        assert (await health(api, until="ok"))["replica"] == "ok"


async def test_it_starts_without_the_replica(settings: Settings) -> None:
    away = settings.model_copy(update={"database_replica_url": SecretStr(NOWHERE)})
    async with running_api(away) as server, httpx2.AsyncClient(base_url=server.url, timeout=10) as api:
        assert (await api.post("/identify", json={"email": "ada@example.com"})).status_code == 200
        query = '{ contactFamily(by: {email: "ada@example.com"}, source: RECORD) { emails } contacts { totalCount } }'
        told = (await api.post("/graphql", json={"query": query})).json()["data"]
        assert told == {"contactFamily": {"emails": ["ada@example.com"]}, "contacts": {"totalCount": 1}}
        assert (await health(api, until="degraded"))["replica"] == "down"


async def health(api: httpx2.AsyncClient, *, until: str) -> dict[str, str]:
    """What each server is said to be, once the whole is said to be so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            response = await api.get("/health")
            assert response.status_code == 200
            told = response.json()
            if told["status"] == until:
                return {name: check["status"] for name, check in told["checks"].items()}
