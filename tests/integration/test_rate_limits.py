"""Rate limits: exact across processes, kept without Redis, and in bounded memory whatever addresses are forged."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from nexus_graph.config import RATES, Settings
from nexus_graph.door import rate_limits
from nexus_graph.door.permissions import Role
from nexus_graph.door.principal import ANYONE, STRANGER, Principal
from nexus_graph.door.rate_limits import RateLimits
from nexus_graph.door.standing import UNLIMITED, Standing
from nexus_graph.door.window import Window
from nexus_graph.errors import RateLimited
from nexus_graph.rate import Rate
from nexus_graph.statements import lua
from nexus_graph.telemetry import RATE_DECISIONS
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.redis import OwnRedis
from tests.unit.door.test_window import arrivals

PEER = "198.51.100.7"
SERVICE = Principal("key:shop", frozenset({Role.SERVICE}))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no trouble of Redis; where a test makes trouble, Redis is soon asked again."""
    monkeypatch.setattr("nexus_graph.door.counting.WAIT_SECONDS", 60.0)
    monkeypatch.setattr("nexus_graph.door.counting.CONNECT_SECONDS", 60.0)
    monkeypatch.setattr("nexus_graph.door.counting.AWAY_SECONDS", 0.02)


def limited(settings: Settings, **rates: str) -> Settings:
    """The settings with other limits by role, or for all others by `default`."""
    general = rates.pop("default", "off")
    return settings.model_copy(update={"rate_limit": general, "rate_limits": {**RATES, **rates}})


@asynccontextmanager
async def processes(settings: Settings, count: int = 1) -> AsyncIterator[list[RateLimits]]:
    """As many processes' worth: nothing is shared but Redis."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            limits = RateLimits(settings)
            await limits.start()
            stack.push_async_callback(limits.close)
            found.append(limits)
        yield found


async def spent(limits: RateLimits, principal: Principal = STRANGER, peer: str = PEER, cost: int = 1) -> Standing:
    found = limits.spend(principal, peer, cost)
    return found if isinstance(found, Standing) else await found


async def is_let_in(limits: RateLimits, principal: Principal = STRANGER, peer: str = PEER, cost: int = 1) -> bool:
    try:
        await spent(limits, principal, peer, cost)
    except RateLimited:
        return False
    return True


async def hammered(limits: RateLimits, principal: Principal, calls: int) -> int:
    """How many calls were let in."""
    let_in = 0
    for _ in range(calls):
        let_in += await is_let_in(limits, principal)
        await asyncio.sleep(0)
    return let_in


async def back(limits: RateLimits, *, away: bool = False) -> None:
    """Return once the process found out that Redis is back, or away."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while limits._shared.is_away is not away:  # noqa: ASYNC110 - a signal would be of the test's making
            await asyncio.sleep(0.001)


async def counted(settings: Settings) -> list[int]:
    """What Redis has counted, for each caller."""
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        keys: list[bytes] = await redis.keys("nexus:rate:*")  # type: ignore[assignment]
        values: list[bytes] = await redis.mget(keys) if keys else []  # type: ignore[assignment]
        return [sum(map(int, value.split()[1:])) for value in values]


async def redis_counts(settings: Settings, expected: int) -> None:
    """Return once Redis has counted so much for the one caller that there is."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await counted(settings) != [expected]:
            pass


async def test_the_hundred_and_first_call_is_refused_and_says_when_to_come_back(settings: Settings) -> None:
    async with processes(limited(settings, default="100/minute")) as (limits,):
        standings = [await spent(limits) for _ in range(100)]
        assert [standing.remaining for standing in standings] == list(range(99, -1, -1))
        assert {standing[0::3] for standing in standings} == {(100, 60)}
        with pytest.raises(RateLimited) as refused:
            await spent(limits)
        assert refused.value.code == "RATE_LIMITED"
        assert refused.value.status == 429
        assert 1 <= refused.value.retry_after_seconds <= 62  # type: ignore[operator]
        assert refused.value.headers == [
            (b"ratelimit-policy", b'"default";q=100;w=60'),
            (b"ratelimit", b'"default";r=0;t=%d' % (refused.value.retry_after_seconds or 0)),
        ]
        assert await hammered(limits, STRANGER, 50) == 0
        assert await is_let_in(limits, peer="198.51.100.8")


@pytest.mark.parametrize(("amount", "instances"), [(100, 2), (100, 5), (5_000, 2), (5_000, 5)])
async def test_processes_together_let_in_what_the_limit_allows(settings: Settings, amount: int, instances: int) -> None:
    """Never more; and less by no more than the refused calls that count, one for each time something is given back."""
    async with processes(limited(settings, service=f"{amount}/hour"), instances) as each:
        calls = 2 * amount // instances
        let_in = sum(await asyncio.gather(*(hammered(limits, SERVICE, calls) for limits in each)))
        assert let_in <= amount
        assert let_in >= (amount if amount == 100 else 0.97 * amount)


async def test_processes_that_count_apart_are_convicted(settings: Settings) -> None:
    """The planted bug of the test above: Redis is never asked."""
    async with processes(limited(settings, service="100/hour"), 2) as each:
        for limits in each:
            limits._shared.is_away = True
        let_in = sum(await asyncio.gather(*(hammered(limits, SERVICE, 100) for limits in each)))
        assert let_in == 200


async def test_far_from_the_limit_none_is_refused_and_few_wait(settings: Settings) -> None:
    def decided(by: str) -> float:
        value: float = RATE_DECISIONS.labels("let_in", by)._value.get()
        return value

    before = {by: decided(by) for by in ("process", "redis")}
    async with processes(limited(settings, service="1000000/minute"), 2) as each:
        assert await asyncio.gather(*(hammered(limits, SERVICE, 5_000) for limits in each)) == [5_000, 5_000]
    by_process, by_redis = (decided(by) - before[by] for by in ("process", "redis"))
    assert by_process + by_redis == 10_000
    assert by_process > 9 * by_redis
    assert await counted(settings) == [10_000], "what was counted ahead and not used is given back"


async def test_what_is_counted_ahead_by_an_idle_process_is_given_back(settings: Settings) -> None:
    async with processes(limited(settings, service="10000/hour"), 2) as (idle, busy):
        assert await hammered(idle, SERVICE, 500) == 500
        await redis_counts(settings, 500)
        assert not idle._to_settle
        assert await hammered(busy, SERVICE, 9_400) == 9_400


async def test_a_cost_is_let_in_whole_or_refused_and_then_counts_one(settings: Settings) -> None:
    async with processes(limited(settings, default="100/hour")) as (limits,):
        assert (await spent(limits, cost=60)).remaining == 40
        assert not await is_let_in(limits, cost=60)
        assert (await spent(limits, cost=39)).remaining == 0
        assert not await is_let_in(limits)
        with pytest.raises(RateLimited) as never:
            await spent(limits, peer="198.51.100.8", cost=101)
        assert never.value.retry_after_seconds == 2 * 3600


async def test_concurrent_calls_of_one_caller_are_asked_together(settings: Settings) -> None:
    async with processes(limited(settings, default="100/hour")) as (limits,):
        assert sum(await asyncio.gather(*(is_let_in(limits) for _ in range(700)))) == 100


async def test_a_caller_who_leaves_takes_nobody_along(settings: Settings) -> None:
    async with processes(limited(settings, default="100/hour")) as (limits,):
        leaving = [asyncio.ensure_future(spent(limits)) for _ in range(10)]
        staying = [asyncio.ensure_future(spent(limits)) for _ in range(10)]
        await asyncio.sleep(0)
        for one in leaving:
            one.cancel()
        assert len(await asyncio.gather(*staying)) == 10
        assert await hammered(limits, STRANGER, 100) == 80


@pytest.mark.parametrize(
    ("roles", "limit", "policy"),
    [
        ({Role.READER}, 10, "reader"),
        ({Role.READER, Role.SERVICE}, 50, "service"),
        ({Role.READER, Role.SERVICE, Role.STEWARD}, 20, "steward"),  # a second, not an hour
        ({Role.READER, Role.ADMIN}, None, ""),
        (set(), 5, "default"),
    ],
)
async def test_the_highest_limit_of_several_roles_counts(
    settings: Settings, roles: set[Role], limit: int | None, policy: str
) -> None:
    rates = {"reader": "10/hour", "service": "50/hour", "steward": "20/second", "admin": "off", "default": "5/hour"}
    async with processes(limited(settings, **rates)) as (limits,):
        standing = await spent(limits, Principal("user:1", frozenset(roles)))
        assert standing.policy == policy
        if limit is None:
            assert standing is UNLIMITED
            assert standing.headers() == []
        else:
            assert standing[:2] == (limit, limit - 1)


async def test_principals_are_counted_by_name_and_all_others_by_address(settings: Settings) -> None:
    async with processes(limited(settings, default="1/hour", service="1/hour")) as (limits,):
        assert await is_let_in(limits, SERVICE)
        assert not await is_let_in(limits, SERVICE, "192.0.2.1")
        assert await is_let_in(limits, Principal("key:other", SERVICE.roles))
        assert await is_let_in(limits, STRANGER)
        assert not await is_let_in(limits, ANYONE)
        assert await is_let_in(limits, ANYONE, "192.0.2.1")


async def test_no_key_names_a_caller_and_none_lives_longer_than_two_windows(settings: Settings) -> None:
    async with processes(limited(settings, default="10/minute", service="10/minute")) as (limits,):
        await spent(limits)
        await spent(limits, SERVICE)
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        keys: list[bytes] = await redis.keys()  # type: ignore[assignment]
        assert len(keys) == 2
        for key in keys:
            assert key.startswith(b"nexus:rate:")
            assert len(key) == len(b"nexus:rate:") + 32
            assert 0 < await redis.pttl(key) <= 120_000
    elsewhere = settings.model_copy(update={"database_url": SecretStr("postgresql://elsewhere/nexus")})
    names = {RateLimits(one)._shared.name("rate", PEER) for one in (settings, settings, elsewhere)}
    assert len(names) == 2


async def test_redis_counts_as_the_window_does(settings: Settings, rng: random.Random) -> None:
    """The script and `Window` are given the same calls at the same times."""
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        script = redis.register_script(lua("spend"))
        for round_number in range(20):
            rate = Rate(rng.choice([1, 2, 10, 64, 100]), rng.choice([1, 8, 64]))
            calls = arrivals(rng, rate, 300)
            window = Window(0.0)
            expected = [int(window.spend(at, cost, rate)) for at, cost in calls]
            found = []
            for first in range(0, len(calls), 100):
                # The script's clock stands still in one call, so there is a call for each moment.
                pending = calls[first : first + 100]
                for at, cost in pending:
                    line = [round(1000 * at), rate.amount, 1000 * rate.seconds, 0, 0, cost, 0]
                    answer: Any = await script(keys=[f"test:{round_number}"], args=line)
                    found.append(answer[0])
            assert found == expected, rate


async def test_what_is_counted_ahead_never_passes_the_limit(settings: Settings, rng: random.Random) -> None:
    """Three processes ask the script at random: what they hold and what they have used stays within the amount."""
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        script = redis.register_script(lua("spend"))
        amount, held, used = 1_000, [0, 0, 0], 0
        for number in range(600):
            one = rng.randrange(3)
            use = rng.randrange(held[one] + 1)
            used, held[one] = used + use, held[one] - use
            give_back = rng.choice([0, held[one], held[one] // 2])
            held[one] -= give_back
            cost, ahead = rng.choice([0, 1, 1, 5]), rng.choice([0, 8, 100, 10_000])
            line = [1_000 + number, amount, 3_600_000, -give_back, 0, cost, ahead]
            answer: Any = await script(keys=["test:ahead"], args=line)
            used += cost * answer[0]
            held[one] += answer[1]
            assert used + sum(held) <= amount
        assert used + sum(held) > 0.9 * amount


def at_once(limits: RateLimits, principal: Principal = STRANGER, peer: str = PEER) -> bool:
    """A call that is decided without waiting for anything."""
    try:
        assert isinstance(limits.spend(principal, peer), Standing)
    except RateLimited:
        return False
    return True


async def test_redis_stops_and_comes_back(settings: Settings, own: OwnRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a Redis that is known to be away, what was counted goes on to count, and Redis hears of it."""
    there = limited(own.reached(settings), default="100/hour")
    async with processes(there, 2) as (one, other):
        assert await hammered(one, STRANGER, 30) == 30
        assert await hammered(other, STRANGER, 30) == 30
        own.freeze()
        try:
            monkeypatch.setattr(one._shared, "_wait_seconds", 0.05)
            assert await is_let_in(one), "whoever was on the way is let in as well"
            assert one._shared.is_away
            # It has heard of its own 30, and of the other's as far as these were counted before.
            assert sum(at_once(one) for _ in range(200)) == 69
            assert not other._shared.is_away
        finally:
            own.thaw()
        await back(one)
        await redis_counts(there, 101)
        assert await hammered(other, STRANGER, 10) == 0
        assert await hammered(one, STRANGER, 10) == 0


async def test_redis_dies_and_another_takes_its_place(settings: Settings, own: OwnRedis) -> None:
    """It knows neither the counts nor the scripts."""
    there = limited(own.reached(settings), default="100/hour", service="100000/hour")
    async with processes(there) as (limits,):
        assert await hammered(limits, SERVICE, 1_000) == 1_000
        assert await hammered(limits, STRANGER, 10) == 10
        await own.kill()
        assert await hammered(limits, SERVICE, 1_000) == 1_000
        await back(limits, away=True)
        assert sum(at_once(limits) for _ in range(200)) == 90
        await own.start()
        await back(limits)
        assert await hammered(limits, STRANGER, 50) <= 10, "what the new one does not know is what the old one knew"
        assert await hammered(limits, SERVICE, 1_000) == 1_000


async def test_a_long_outage_is_told_in_pieces(
    settings: Settings, own: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.door.rate_limits.WAITING_MAX", 50)
    there = limited(own.reached(settings), default="100/hour")
    await own.kill()
    async with processes(there) as (limits,):
        assert all(at_once(limits, peer=address(number)) for number in range(500))
        await own.start()
        await back(limits)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await counted(there) != [1] * 500:
                pass


async def test_a_process_starts_without_redis(settings: Settings, unused_tcp_port: int) -> None:
    nowhere = settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{unused_tcp_port}/0")})
    async with processes(limited(nowhere, default="100/hour")) as (limits,):
        assert sum(at_once(limits) for _ in range(200)) == 100


async def test_a_redis_that_takes_no_writes_is_as_one_that_is_away(settings: Settings) -> None:
    async with (
        Redis.from_url(settings.redis_url.get_secret_value()) as admin,
        processes(limited(settings, default="100/hour")) as (limits,),
    ):
        await admin.config_set("maxmemory", 1)
        await admin.config_set("maxmemory-policy", "noeviction")
        try:
            assert await hammered(limits, STRANGER, 150) == 100
        finally:
            await admin.config_set("maxmemory", "256mb")
            await admin.config_set("maxmemory-policy", "allkeys-lru")


def address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def kept_counts() -> int:
    gc.collect()
    return sum(isinstance(one, rate_limits._Count) for one in gc.get_objects())


async def test_a_million_forged_addresses_use_bounded_memory_and_free_nobody(
    settings: Settings, unused_tcp_port: int
) -> None:
    nowhere = settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{unused_tcp_port}/0")})
    before = kept_counts()
    async with processes(limited(nowhere, default="100/hour", service="100/hour")) as (limits,):
        assert sum(at_once(limits) for _ in range(200)) == 100
        assert sum(at_once(limits, SERVICE) for _ in range(10)) == 10
        for number in range(1_000_000):
            assert at_once(limits, peer=address(number))
            if number % 10_000 == 0:
                await asyncio.sleep(0)
        bound = rate_limits.NEWCOMERS_MAX + rate_limits.REGULARS_MAX
        assert kept_counts() - before <= bound + 1
        assert len(limits._to_settle) <= bound + 1
        assert not at_once(limits), "who has used up a limit is remembered"
        assert sum(at_once(limits, SERVICE) for _ in range(200)) == 90


async def test_forged_addresses_use_bounded_memory_with_redis_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who is forgotten by the process is known to Redis."""
    monkeypatch.setattr("nexus_graph.door.rate_limits.NEWCOMERS_MAX", 500)
    monkeypatch.setattr("nexus_graph.door.rate_limits.REGULARS_MAX", 500)
    before = kept_counts()
    async with processes(limited(settings, default="5/hour")) as (limits,):
        assert await hammered(limits, STRANGER, 4) == 4
        for first in range(0, 20_000, 500):
            calls = (is_let_in(limits, peer=address(number)) for number in range(first, first + 500))
            assert all(await asyncio.gather(*calls))
        assert kept_counts() - before <= 1_000
        assert await hammered(limits, STRANGER, 10) == 1


async def test_past_so_many_waiting_the_process_decides_by_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.door.rate_limits.WAITING_MAX", 50)
    there = limited(settings, default="100/hour")
    async with processes(there) as (limits,):
        found = [limits.spend(STRANGER, PEER) for _ in range(90)]
        waiting: list[Awaitable[Standing]] = [one for one in found if not isinstance(one, Standing)]
        assert len(waiting) == 50
        await asyncio.gather(*waiting)
        await redis_counts(there, 90)
        assert await hammered(limits, STRANGER, 20) == 10
