"""The quota of families a day: exact across processes, kept without Redis, and free for what was read already."""

import asyncio
from collections.abc import Iterable

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role
from nexus_graph.door.principal import STRANGER, Principal
from nexus_graph.door.rate_limits import RateLimits
from nexus_graph.errors import RateLimited, Unavailable
from tests.integration.test_rate_limits import back, patient, processes
from tests.stage.redis import OwnRedis

__all__ = ["patient"]

PEER = "198.51.100.7"
READER = Principal("key:reader", frozenset({Role.READER}))
OTHER = Principal("key:other", frozenset({Role.READER}))
NOON = 1_800_014_400.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since 1970, for the quota alone."""
    now = [NOON]
    monkeypatch.setattr("nexus_graph.door.family_quota.time", lambda: now[0])
    return now


def with_quota(settings: Settings, quota: int) -> Settings:
    return settings.model_copy(update={"family_quota_families": quota})


async def may_read(limits: RateLimits, families: Iterable[int], reader: Principal = READER) -> bool:
    try:
        waiting = limits.read_families(reader, PEER, list(families))
        if waiting is not None:
            await waiting
    except RateLimited:
        return False
    return True


async def test_without_a_quota_nothing_is_counted(settings: Settings) -> None:
    async with processes(settings) as (limits,):
        assert limits.read_families(READER, PEER, range(1_000_000)) is None


async def test_a_crawl_stops_at_the_quota_whatever_process_answers(settings: Settings) -> None:
    async with processes(with_quota(settings, 1_000), 3) as each:
        read = [await may_read(each[number % 3], [number]) for number in range(1_500)]
        assert sum(read) == 1_000
        assert read.index(False) == 1_000
        assert await may_read(each[0], range(0, 1_000, 3)), "what was read today is free"
        assert await may_read(each[0], range(1_000)), "by whatever process"
        assert await may_read(each[0], [5_000], OTHER)


async def test_processes_at_once_stop_at_the_quota(settings: Settings) -> None:
    async with processes(with_quota(settings, 500), 3) as each:

        async def crawl(limits: RateLimits, first: int) -> int:
            return sum([await may_read(limits, [number]) for number in range(first, first + 300)])

        crawls = (crawl(limits, 1_000 * number) for number, limits in enumerate(each))
        assert sum(await asyncio.gather(*crawls)) == 500


async def test_a_page_is_counted_whole_or_not_at_all(settings: Settings) -> None:
    async with processes(with_quota(settings, 100)) as (limits,):
        assert await may_read(limits, range(90))
        with pytest.raises(RateLimited, match="families") as refused:
            await limits.read_families(READER, PEER, range(80, 110))  # type: ignore[misc]
        assert refused.value.headers == [
            (b"ratelimit-policy", b'"families";q=100;w=86400'),
            (b"ratelimit", b'"families";r=10;t=43200'),
        ]
        assert refused.value.retry_after_seconds == 43_200
        assert await may_read(limits, range(80, 100))
        assert not await may_read(limits, [100])


async def test_each_day_begins_anew(settings: Settings, clock: list[float]) -> None:
    async with processes(with_quota(settings, 5)) as (limits,):
        assert await may_read(limits, range(5))
        assert not await may_read(limits, [5])
        clock[0] += 43_200
        assert await may_read(limits, range(5, 10))
        assert not await may_read(limits, [0])


async def test_strangers_are_counted_by_address(settings: Settings) -> None:
    async with processes(with_quota(settings, 1)) as (limits,):
        assert await may_read(limits, [1], STRANGER)
        assert not await may_read(limits, [2], STRANGER)
        waiting = limits.read_families(STRANGER, "192.0.2.1", [2])
        assert waiting is not None
        await waiting


async def test_no_key_names_a_reader_and_each_ends_after_its_day(settings: Settings) -> None:
    async with processes(with_quota(settings, 10)) as (limits,):
        await may_read(limits, range(10))
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        keys: list[bytes] = await redis.keys()  # type: ignore[assignment]
        (key,) = keys
        assert key.startswith(b"nexus:families:")
        assert len(key) == len(b"nexus:families:") + 32
        assert 43_200 < await redis.ttl(key) <= 43_200 + 3_600


async def test_without_redis_each_process_goes_on_and_tells_later(settings: Settings, own: OwnRedis) -> None:
    async with processes(with_quota(own.reached(settings), 1_000), 2) as (one, other):
        assert await may_read(one, range(100))
        await own.kill()
        assert await may_read(one, range(100, 700))
        await back(one, away=True)
        assert one.read_families(READER, PEER, range(700)) is None
        assert one.read_families(READER, PEER, range(700, 1_000)) is None
        with pytest.raises(RateLimited):
            one.read_families(READER, PEER, [1_000])
        await own.start()
        await back(one)
        assert not await may_read(one, [1_000]), "it knows what the new Redis does not"
        assert not await may_read(one, [1_000])
        await may_read(other, [500])
        await back(other)
        # Two questions told the new Redis of the 900; only the old one knew of the first hundred.
        assert await may_read(other, range(1_500, 1_600))
        assert not await may_read(other, [1_600])


async def test_a_process_remembers_so_many_ids(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_graph.door.family_quota.REMEMBERED_MAX", 100)
    async with processes(with_quota(settings, 150)) as (limits,):
        quota = limits._families
        for first in range(0, 150, 30):
            assert await may_read(limits, range(first, first + 30))
            assert await may_read(limits, range(30), OTHER)
            assert sum(len(reader.ids) for reader in quota._readers.values()) == quota._remembered <= 100
        assert not await may_read(limits, [150])
        assert await may_read(limits, range(150))


async def test_without_redis_a_process_that_cannot_remember_refuses(
    settings: Settings, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.door.family_quota.REMEMBERED_MAX", 100)
    nowhere = settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{unused_tcp_port}/0")})
    async with processes(with_quota(nowhere, 1_000)) as (limits,):
        assert await may_read(limits, range(100))
        with pytest.raises(Unavailable):
            limits.read_families(READER, PEER, [100])
        assert await may_read(limits, range(100))
