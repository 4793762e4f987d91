"""Print what a rate limit costs a call: `scripts/rate_limit_speed.py redis://…`. A look by hand, no test."""

# It sets up states that a process reaches only under load, or while Redis is away.
# ruff: noqa: SLF001

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Final

from pydantic import SecretStr

from nexus_graph.config import Settings
from nexus_graph.door import rate_limits
from nexus_graph.door.permissions import Role
from nexus_graph.door.principal import STRANGER, Principal
from nexus_graph.door.rate_limits import RateLimits
from nexus_graph.door.standing import Standing
from nexus_graph.errors import RateLimited

CALLS: Final = 100_000
PAUSE_SECONDS: Final = 0.0001
"""Of the work that a call does besides, as a known identify."""


def each_us(seconds: float, calls: int = CALLS) -> str:
    """Microseconds of one call."""
    return f"{1e6 * seconds / calls:8.2f} us"


async def far_from_the_limit(limits: RateLimits, principal: Principal) -> None:
    """Calls as they come: the loop turns after each, and a tick passes now and then."""
    spent = waited = 0.0
    waits = 0
    began = perf_counter()
    for _ in range(CALLS):
        before = perf_counter()
        found = limits.spend(principal, "192.0.2.1")
        if not isinstance(found, Standing):
            await found
            waits += 1
            waited += perf_counter() - before
        else:
            spent += perf_counter() - before
        while perf_counter() - before < PAUSE_SECONDS:
            pass
        await asyncio.sleep(0)
    whole = perf_counter() - began
    print(f"let in from what is counted ahead {each_us(spent, CALLS - waits)}, timing included")
    print(f"let in by Redis                   {each_us(waited, max(1, waits))}, {waits} of {CALLS} calls")
    print(f"calls a second, 100 us of other work each: {CALLS / whole:.0f}")


def timed(name: str, call: Callable[[], object]) -> None:
    """Print the cost of a call that does not wait."""
    began = perf_counter()
    for _ in range(CALLS):
        call()
    print(f"{name:34}{each_us(perf_counter() - began)}")


async def main(url: str) -> None:
    """Print all figures."""
    settings = Settings(redis_url=SecretStr(url), rate_limits={"service": "1000000000/minute"})
    limits = RateLimits(settings)
    await limits.start()
    service = Principal("key:1", frozenset({Role.SERVICE}))
    await far_from_the_limit(limits, service)
    policy = limits._of_roles[service.roles]
    assert policy is not None
    count = policy.find("key:1")
    assert count is not None
    count.left = 2 * CALLS
    timed("the same, in a row", lambda: limits.spend(service, "192.0.2.1"))
    count.left = 0
    count.window.before = count.window.now = 0

    def refused() -> None:
        with suppress(RateLimited):
            limits.spend(STRANGER, "192.0.2.2")

    for _ in range(101):
        try:
            found = limits.spend(STRANGER, "192.0.2.2")
            if not isinstance(found, Standing):
                await found
        except RateLimited:
            break
    stranger = limits._general and limits._general.find("192.0.2.2")
    assert stranger
    stranger.closed_until = float("inf")
    timed("refused as Redis said a moment ago", refused)
    stranger.closed_until = 0.0
    standing = Standing(100, 7, 3, 60, "default")
    timed("headers", standing.headers)
    timed("peer_of, no proxies", lambda: limits.peer_of("192.0.2.1", {}))
    limits._shared.is_away = True
    timed("let in without Redis", lambda: limits.spend(service, "192.0.2.1"))
    began = perf_counter()
    for number in range(CALLS):
        limits.spend(STRANGER, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    print(f"{'new addresses, without Redis':34}{each_us(perf_counter() - began)}")
    limits._shared.is_away = False
    limits._redis_is_back()
    began = perf_counter()
    for first in range(0, CALLS, rate_limits.TOGETHER_MAX):
        asked = [limits.spend(STRANGER, f"11.0.{first >> 8}.{one}") for one in range(rate_limits.TOGETHER_MAX)]
        await asyncio.gather(*[one for one in asked if not isinstance(one, Standing)])
    print(f"{'new addresses, 256 at once':34}{each_us(perf_counter() - began)}")
    await limits.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
