"""The cache of family reads: what it may answer, for how long, and that it is nobody's trouble."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from time import monotonic

import pytest
from neo4j import AsyncDriver
from pydantic import SecretStr
from redis.asyncio import Redis

from nexus_graph.cache.families import FamilyCache
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.cache.warm import warm
from nexus_graph.config import Settings
from nexus_graph.identity.opening import Identity, open_identity
from nexus_graph.model import Contact, Family, FamilyKey, IdentifyRequest, Outcome, Source
from nexus_graph.store.database import Pool
from nexus_graph.telemetry import CACHE_READS
from tests.stage.running import running_relay

BOUND_SECONDS = 0.3
BY_EMAIL = FamilyKey("email", "a@x.example")
START = datetime(2026, 9, 1, tzinfo=UTC)


@pytest.fixture
def cached(settings: Settings) -> Settings:
    return settings.model_copy(update={"cache": "both", "cache_process_seconds": BOUND_SECONDS, "cache_seconds": 60.0})


@asynccontextmanager
async def processes(*each: Settings) -> AsyncIterator[list[Identity]]:
    """As many processes as settings: nothing is shared but the servers."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_identity(one)) for one in each]


@pytest.fixture
async def shared(cached: Settings) -> AsyncIterator[SharedFamilies]:
    families = SharedFamilies(cached)
    yield families
    await families.close()


async def identify(identity: Identity, email: str | None, phone: str | None) -> tuple[Outcome, Family]:
    answer = await identity.identify(IdentifyRequest(email, phone))
    return answer.outcome, answer.family


def family(version: int, *phones: str) -> Family:
    contacts = [Contact(number, "a@x.example", phone, START) for number, phone in enumerate(phones or ("1",), start=7)]
    return Family(version, tuple(contacts), Source.GRAPH)


def hits(level: str) -> float:
    value: float = CACHE_READS.labels(level, "hit")._value.get()
    return value


async def nobody() -> Family | None:
    raise AssertionError("a store was asked")


async def test_what_was_read_is_told_again_by_both_levels(cached: Settings) -> None:
    async with processes(cached, cached) as (one, other), running_relay(cached) as relay:
        await identify(one, "a@x.example", "1")
        await relay.drained()
        read = await one.families.family(BY_EMAIL)
        assert read is not None
        assert read.source is Source.GRAPH
        before = hits("process"), hits("shared")
        assert await one.families.family(BY_EMAIL) is read
        await one.families._cache.written()  # type: ignore[union-attr]
        assert await other.families.family(BY_EMAIL) == read
        assert (hits("process"), hits("shared")) == (before[0] + 1, before[1] + 1)


async def test_a_reader_who_asks_for_more_gets_more(cached: Settings) -> None:
    async with processes(cached, cached) as (one, other), running_relay(cached) as relay:
        await identify(one, "a@x.example", "1")
        await relay.drained()
        old = await other.families.family(BY_EMAIL)
        assert old is not None
        _, newer = await identify(one, "a@x.example", "2")
        fresh = await other.families.family(BY_EMAIL, at_least=newer.version)
        assert fresh is not None
        assert (fresh.version, fresh.phones) == (newer.version, ("1", "2"))
        record = await other.families.family(BY_EMAIL, source=Source.RECORD)
        assert record is not None
        assert record.version == newer.version


@pytest.mark.parametrize("change", ["link", "union", "soft deletion"])
@pytest.mark.parametrize("writer_tells", [True, False], ids=["writer tells", "writer died"])
async def test_what_is_kept_is_stale_no_longer_than_is_said(
    settings: Settings, cached: Settings, pool: Pool, change: str, *, writer_tells: bool
) -> None:
    """Once the relay has told of a change, a process that kept the family tells it no longer than its bound."""
    writers = cached if writer_tells else settings
    async with processes(writers, cached) as (writer, reader), running_relay(cached) as relay:
        await identify(writer, "b@x.example", "2")
        _, second = await identify(writer, "a@x.example", "1")
        await relay.drained()
        keys = [FamilyKey("phone", "1"), FamilyKey("contact", second.id)]
        assert [found and found.id for found in [await reader.families.family(key) for key in keys]] == [second.id] * 2
        if change == "link":
            await identify(writer, "a@x.example", "3")
        elif change == "union":
            assert (await identify(writer, "b@x.example", "1"))[0] is Outcome.MERGED
        else:
            await identify(writer, "a@x.example", "3")
            await pool.execute("UPDATE contacts SET deleted_at = now() WHERE id = $1", second.id)
        await relay.drained()
        await relay._cached.written()  # type: ignore[union-attr]
        told = monotonic()
        expected = {"link": ("1", "3"), "union": ("2", "1"), "soft deletion": ("3",)}[change]
        while True:
            asked = monotonic()
            found = [await reader.families.family(key, at_least=None) for key in (*keys, BY_EMAIL)]
            if asked > told + BOUND_SECONDS:
                break
        live = found[:2] if change != "soft deletion" else found[2:]
        assert {one.phones for one in live if one is not None} == {expected}
        assert None not in live


async def test_the_relay_that_tells_nothing_is_noticed(settings: Settings, cached: Settings) -> None:
    """The planted bug of the test above: writer and relay both keep the change to themselves."""
    async with processes(settings, cached) as (writer, reader), running_relay(settings) as relay:
        await identify(writer, "a@x.example", "1")
        await relay.drained()
        await reader.families.family(BY_EMAIL)
        await identify(writer, "a@x.example", "3")
        await relay.drained()
        told = monotonic()
        while monotonic() < told + 2 * BOUND_SECONDS:
            stale = await reader.families.family(BY_EMAIL)
        assert stale is not None
        assert stale.phones == ("1",)


async def test_a_slow_reader_does_not_bring_back_what_is_stale(shared: SharedFamilies) -> None:
    async def found() -> int | None:
        await shared.written()
        kept = await shared.find(BY_EMAIL)
        return None if kept is None else kept.version

    shared.keep([BY_EMAIL], family(3))
    assert await found() == 3
    shared.forget(7, 5)
    assert await found() is None
    shared.keep([BY_EMAIL], family(4))
    assert await found() is None
    shared.keep([BY_EMAIL], family(5))
    assert await found() == 5
    shared.forget(7, 5)
    assert await found() == 5
    shared.keep([BY_EMAIL], family(6))
    shared.forget(7, 7)  # both are still to be written
    shared.keep([BY_EMAIL], family(6))
    assert await found() is None


async def test_what_is_read_is_what_was_kept(shared: SharedFamilies) -> None:
    kept = Family(2**53 - 1, (Contact(7, None, "1", START), Contact(9, "ünï@x.example", None, START)), Source.RECORD)
    shared.keep([BY_EMAIL], kept)
    await shared.written()
    assert await shared.find(BY_EMAIL) == kept


async def test_a_pointer_that_leads_astray_is_no_answer(cached: Settings, shared: SharedFamilies) -> None:
    cache = FamilyCache(cached)
    shared.keep([FamilyKey("email", "b@x.example"), FamilyKey("contact", 99)], family(3))
    await shared.written()
    for key in (FamilyKey("email", "b@x.example"), FamilyKey("contact", 99)):
        read = family(4)
        assert await cache.family(key, None, lambda read=read: _given(read)) is read  # type: ignore[misc]
    await cache.close()


async def _given(read: Family) -> Family:
    return read


async def test_nobody_is_named_by_a_key(cached: Settings, shared: SharedFamilies) -> None:
    shared.keep([BY_EMAIL, FamilyKey("phone", "+14155550123"), FamilyKey("contact", 7)], family(3))
    await shared.written()
    async with Redis.from_url(cached.redis_url.get_secret_value()) as redis:
        keys: list[bytes] = sorted(await redis.keys())  # type: ignore[arg-type]
        assert len(keys) == 4
        for key in keys:
            assert key == b"nexus:family:7" or (key.startswith(b"nexus:key:") and len(key) == len(b"nexus:key:") + 32)
            assert 0 < await redis.pttl(key) <= 1200 * cached.cache_seconds


@pytest.mark.parametrize("value", [b"", b"x", b"0" * 20 + b"\xff", b"x" * 30, b"0" * 20 + b"\x92\xa5OTHER\x90"])
async def test_what_is_not_ours_is_no_answer(cached: Settings, shared: SharedFamilies, value: bytes) -> None:
    shared.keep([BY_EMAIL], family(3))
    await shared.written()
    async with Redis.from_url(cached.redis_url.get_secret_value()) as redis:
        await redis.set("nexus:family:7", value)
    assert await shared.find(BY_EMAIL) is None


async def test_one_read_for_all_who_wait(cached: Settings) -> None:
    cache = FamilyCache(cached)
    reads = 0
    asked, answer = asyncio.Event(), asyncio.Event()

    async def read() -> Family | None:
        nonlocal reads
        reads += 1
        asked.set()
        await answer.wait()
        return family(3)

    waiting = [asyncio.create_task(cache.family(BY_EMAIL, None, read)) for _ in range(20)]
    await asked.wait()
    waiting[0].cancel()
    answer.set()
    assert await asyncio.gather(*waiting[1:]) == [family(3)] * 19
    assert reads == 1
    assert waiting[0].cancelled()
    await cache.close()


async def test_what_is_asked_for_again_and_again_is_renewed_behind_its_readers(
    cached: Settings, shared: SharedFamilies
) -> None:
    cache = FamilyCache(cached.model_copy(update={"cache_process_seconds": 2.0}))
    memory = cache._memory
    await cache.family(BY_EMAIL, None, lambda: _given(family(3)))
    await cache.written()
    until = memory._kept[7].until
    misses = CACHE_READS.labels("process", "miss")._value.get()
    while memory._kept[7].until == until:
        assert await cache.family(BY_EMAIL, None, nobody) == family(3)
        await asyncio.sleep(0)
    assert memory._kept[7].until > until
    assert CACHE_READS.labels("process", "miss")._value.get() == misses
    until = memory._kept[7].until
    shared.forget(7, 4)
    await shared.written()
    told: Family | None = family(3)
    while told == family(3):
        told = await cache.family(BY_EMAIL, None, lambda: _given(family(4)))
        await asyncio.sleep(0)
    assert told == family(4)
    assert monotonic() < until, "what Redis called stale was told to its end"
    await cache.close()


async def test_a_family_is_found_by_all_it_can_be_asked_for_by(cached: Settings) -> None:
    cache = FamilyCache(cached.model_copy(update={"cache": "process"}))
    known = family(3, "1", "2")
    assert await cache.family(BY_EMAIL, None, lambda: _given(known)) == known
    for key in known.known_by():
        assert await cache.family(key, None, nobody) == known
    grown = family(4, "1", "2", "3")
    assert await cache.family(BY_EMAIL, 4, lambda: _given(grown)) == grown
    for key in grown.known_by():
        assert await cache.family(key, 4, nobody) == grown
    # A key that the family has lost leads to it still, and is not answered by it.
    shrunk = family(5, "1")
    assert await cache.family(BY_EMAIL, 5, lambda: _given(shrunk)) == shrunk
    for lost in (FamilyKey("phone", "2"), FamilyKey("contact", 8)):
        with pytest.raises(AssertionError, match="a store was asked"):
            await cache.family(lost, None, nobody)
    await cache.close()


async def test_a_large_family_is_not_kept(cached: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_graph.cache.families.FAMILY_CONTACTS_MAX", 2)
    cache = FamilyCache(cached)
    for _ in range(2):
        assert await cache.family(BY_EMAIL, None, lambda: _given(family(3, "1", "2", "3"))) is not None
    with pytest.raises(AssertionError, match="a store was asked"):
        await cache.family(BY_EMAIL, None, nobody)
    await cache.close()


async def test_the_memory_is_bounded(cached: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_graph.cache.memory.KEYS_MAX", 7)
    monkeypatch.setattr("nexus_graph.cache.memory.FAMILIES_MAX", 5)
    cache = FamilyCache(cached.model_copy(update={"cache": "process"}))
    for number in range(20):
        contact = Contact(number, f"{number}@x.example", None, START)
        one = Family(1, (contact,), Source.GRAPH)
        await cache.family(FamilyKey("contact", number), None, lambda one=one: _given(one))  # type: ignore[misc]
    assert (len(cache._memory._kept), len(cache._memory._pointers)) == (5, 7)
    await cache.close()


async def test_redis_away_is_nobodys_trouble(
    cached: Settings, driver: AsyncDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.cache.shared.AWAY_SECONDS", 60.0)
    away = cached.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    async with processes(away) as (identity,), running_relay(away) as relay:
        await identify(identity, "a@x.example", "1")
        _, linked = await identify(identity, "a@x.example", "2")
        await relay.drained()
        for _ in range(2):
            assert await identity.families.family(BY_EMAIL, at_least=linked.version) is not None


async def test_warmed_families_are_found_by_all_they_are_known_by(cached: Settings, pool: Pool) -> None:
    async with processes(cached) as (identity,):
        await identify(identity, "a@x.example", "1")
        _, known = await identify(identity, "a@x.example", "2")
        await identify(identity, "b@x.example", None)
    shared = SharedFamilies(cached)
    assert await warm(pool, shared) == 2
    await shared.close()
    cache = FamilyCache(cached)
    for key in (BY_EMAIL, FamilyKey("phone", "2"), *(FamilyKey("contact", contact.id) for contact in known.contacts)):
        assert await cache.family(key, known.version, nobody) == known
    await cache.close()
