"""How often a caller may call: counted by all processes together in Redis, and by each for itself while Redis is away.

Who is counted: the principal, or the peer's address if the principal is anonymous. Whose limit: the highest of the
principal's roles (NEXUS_RATE_LIMITS), else NEXUS_RATE_LIMIT. `window` says how a limit is counted.

Redis decides, and most calls do not wait for it: once a caller comes often, a process has some of the caller's calls
counted ahead, twice as many as came in the last tick, and lets these in by itself. What was not used is given back at
the next tick. So however many processes there are:

- No more is ever let in than the limit allows. What is counted ahead is counted as if it were used.
- A call may be refused too early, by what other processes have counted ahead: a sixteenth at most, each, of what was
  left when they asked, for two ticks (`TICK_SECONDS`) at most. Nothing is counted ahead once less than 128 is left: a
  limit of 100 a minute is exact.
- A window may be late by two ticks for what was counted ahead when it began.
- A process that is killed leaves what it had counted ahead: that ends with its window.

While Redis is away, each process allows the whole limit by itself, with the counts that it last heard of, in bounded
memory, and tells Redis when it is back. No call fails or waits for that, but for those that are under way as Redis
stops answering: `WAIT_SECONDS`. What Redis forgets as it restarts is forgotten.

Forged addresses cannot fill the memory. Redis forgets a count after two windows. A process keeps a fixed number of
counts for each limit, and a caller who used an eighth of the limit is kept apart from newcomers. With Redis a
forgotten count loses nothing. Without, a caller who wants one eighth of the limit again must call from
`NEWCOMERS_MAX` other addresses first, and for all of it use an eighth of the limit of each of `REGULARS_MAX` others:
more than there is to win.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextvars import Context
from itertools import islice
from math import ceil
from time import monotonic
from typing import Final, NamedTuple

from nexus_graph.config import Settings
from nexus_graph.door.counting import SharedCounts
from nexus_graph.door.family_quota import FamilyQuota
from nexus_graph.door.peers import networks, peer_of
from nexus_graph.door.permissions import Role
from nexus_graph.door.principal import STRANGER, Principal
from nexus_graph.door.standing import UNLIMITED, Standing, refusal
from nexus_graph.door.window import Window
from nexus_graph.errors import RateLimited
from nexus_graph.rate import Rate, parse_rate
from nexus_graph.telemetry import RATE_DECISIONS

TICK_SECONDS: Final = 0.02
"""How often a process gives back what it had counted ahead and did not use."""

NEWCOMERS_MAX: Final = 8_192
"""Counts of one limit that a process keeps of callers who used less than an eighth; past it the oldest goes."""

REGULARS_MAX: Final = 8_192
"""The same of callers who used more."""

WAITING_MAX: Final = 1_024
"""Calls that wait for Redis, past which the process decides by itself and tells Redis later; and counts of which a tick
tells Redis."""

TOGETHER_MAX: Final = 256
"""Counts in one call of Redis: it serves nobody else meanwhile."""


_AHEAD_MIN: Final = 8
"""As in spend.lua."""
_OFTEN_SECONDS: Final = 0.25
"""A caller who comes again so soon comes often."""
_REGULAR: Final = 8
"""The part of a limit, one eighth, that makes a regular."""
_DECISIONS: Final = {
    "ahead": RATE_DECISIONS.labels("let_in", "process"),
    "redis": RATE_DECISIONS.labels("let_in", "redis"),
    "fallback": RATE_DECISIONS.labels("let_in", "fallback"),
    "refused_by_process": RATE_DECISIONS.labels("refused", "process"),
    "refused_by_redis": RATE_DECISIONS.labels("refused", "redis"),
    "refused_by_fallback": RATE_DECISIONS.labels("refused", "fallback"),
}
_REPLY: Final = 5
"""Numbers that spend.lua returns for each entry."""


class _Count:
    """What a process knows of one caller's use of one limit."""

    __slots__ = (
        "ahead", "asked_at", "asking", "closed_cost", "closed_until", "ends_at", "key", "left", "name", "owed",
        "policy", "refused", "remaining", "spent", "window",
    )  # fmt: skip

    def __init__(self, name: str, key: str, policy: "_Policy", now: float) -> None:
        self.name = name
        self.key = key
        self.policy = policy
        self.window = Window(now)
        """As Redis last said, and the calls that this process decided since then without Redis."""
        self.ends_at = now + policy.rate.seconds
        self.remaining = policy.rate.amount
        self.left = 0
        """Counted ahead in Redis, and not used yet."""
        self.spent = 0
        """Used of that since the last tick."""
        self.ahead = 0
        """How much was last wanted ahead."""
        self.asked_at = 0.0
        self.asking = 0
        """Calls that wait for Redis."""
        self.owed = 0
        """What Redis has to be told: what was let in without it, less what is given back."""
        self.refused = False
        """A call was refused, and Redis does not know."""
        self.closed_until = 0.0
        self.closed_cost = 0
        """Redis has refused this cost; until then it need not be asked again."""

    def standing(self, now: float) -> Standing:
        policy = self.policy
        return Standing(
            policy.rate.amount, self.remaining, int(self.ends_at - now) + 1, policy.rate.seconds, policy.name
        )


class _Entry(NamedTuple):
    """A line of a question to Redis."""

    of: _Count
    settled: int
    refused: bool
    cost: int = 0
    ahead: int = 0
    waiter: "asyncio.Future[Standing] | None" = None


class _Policy:
    """A limit, and the counts of those to whom it applies: newcomers, and regulars, who used some of it."""

    def __init__(self, name: str, rate: Rate) -> None:
        self.name = name
        self.rate = rate
        self._regular_from = max(1, rate.amount // _REGULAR)
        self._newcomers_max = NEWCOMERS_MAX
        self._regulars_max = REGULARS_MAX
        self._newcomers: OrderedDict[str, _Count] = OrderedDict()
        self._regulars: OrderedDict[str, _Count] = OrderedDict()

    def __len__(self) -> int:
        return len(self._newcomers) + len(self._regulars)

    def find(self, name: str) -> _Count | None:
        """The count of this caller, if it is kept. It will be forgotten last."""
        count = self._regulars.get(name)
        if count is not None:
            self._regulars.move_to_end(name)
            return count
        count = self._newcomers.get(name)
        if count is not None:
            self._newcomers.move_to_end(name)
        return count

    def keep(self, count: _Count) -> _Count | None:
        """Keep a newcomer; return the one who is forgotten instead, if there is one."""
        self._newcomers[count.name] = count
        if len(self._newcomers) > self._newcomers_max:
            return self._newcomers.popitem(last=False)[1]
        return None

    def was_used(self, count: _Count) -> None:
        """The count has grown: a caller who used an eighth of the limit is a regular from now on."""
        window = count.window
        if window.now + window.before < self._regular_from or count.name not in self._newcomers:
            return
        if self._newcomers[count.name] is count:
            self._regulars[count.name] = self._newcomers.pop(count.name)
            if len(self._regulars) > self._regulars_max:
                name, oldest = self._regulars.popitem(last=False)
                self._newcomers[name] = oldest  # in the place that has just become free


class _Tally:
    """Decisions that the metrics do not show yet: to count each there would cost as much as to decide."""

    __slots__ = tuple(_DECISIONS)

    def __init__(self) -> None:
        self.ahead = self.redis = self.fallback = 0
        self.refused_by_process = self.refused_by_redis = self.refused_by_fallback = 0

    def show(self) -> None:
        """Bring the metrics up to date."""
        for name, metric in _DECISIONS.items():
            if decided := getattr(self, name):
                metric.inc(decided)
                setattr(self, name, 0)


class RateLimits:
    """Counts calls, and refuses those that are too many. One a process."""

    def __init__(self, settings: Settings) -> None:
        general = parse_rate(settings.rate_limit)
        self._general = None if general is None else _Policy("default", general)
        rates = {role: parse_rate(settings.rate_limits[role.value]) for role in Role}
        self._of_role = {role: None if rate is None else _Policy(role.value, rate) for role, rate in rates.items()}
        self._of_roles: dict[frozenset[Role], _Policy | None] = {}
        self._trusted = networks(settings.trusted_proxies)
        self._tick_seconds = TICK_SECONDS
        self._shared = SharedCounts(settings, on_away=self._redis_is_away, on_back=self._redis_is_back)
        self._families = FamilyQuota(settings, self._shared)
        self._entries: deque[_Entry] = deque()
        self._exchanging: asyncio.Task[None] | None = None
        self._to_settle: dict[_Count, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tally = _Tally()

    async def start(self) -> None:
        """Connect to Redis; without it, count here."""
        await self._shared.start()

    async def close(self) -> None:
        """Give back what was counted ahead, then stop."""
        await self._exchanged()
        while self._to_settle and not self._shared.is_away:
            for count in self._to_settle:
                count.spent = 0
            self._settle()
            await self._exchanged()
        if self._timer is not None:
            self._timer.cancel()
        self._tally.show()
        await self._shared.close()

    def peer_of(self, address: str, headers: Mapping[bytes, bytes]) -> str:
        """The peer to count by of a connection from this address, behind NEXUS_TRUSTED_PROXIES (`peers.peer_of`)."""
        return peer_of(address, headers, self._trusted)

    def alias_of(self, peer: str) -> str:
        """The name under which an address may stand in a log."""
        return self._shared.name("peer", peer)

    def spend_ahead(self, principal: Principal) -> Standing | None:
        """Count one call of a principal, if this process has it counted ahead; None if `spend` must decide."""
        policy = self._of_roles.get(principal.roles)
        count = None if policy is None else policy.find(principal.name)
        if count is None or not count.left:
            return None
        count.left -= 1
        count.spent += 1
        count.remaining -= 1
        self._tally.ahead += 1
        return count.standing(monotonic())

    def spend(self, principal: Principal, peer: str, cost: int = 1) -> Awaitable[Standing] | Standing:
        """Count a call of this cost, at least 1. What an anonymous caller spends is the peer's (`peer_of`).

        Raises RateLimited, at once or when awaited: then nothing of the cost was counted, but one for the refused call.
        """
        name = principal.name
        if name == STRANGER.name:
            name, policy = peer, self._general
        else:
            try:
                policy = self._of_roles[principal.roles]
            except KeyError:
                policy = self._of_roles[principal.roles] = self._highest(principal.roles)
        if policy is None:
            return UNLIMITED
        now = monotonic()
        count = policy.find(name)
        if count is None:
            count = self._first_seen(name, policy, now)
        if count.left >= cost:
            count.left -= cost
            count.spent += cost
            count.remaining -= cost
            self._tally.ahead += 1
            return count.standing(now)
        if self._shared.is_away or len(self._entries) >= WAITING_MAX:
            return self._decided_here(count, cost, now)
        if now < count.closed_until and cost >= count.closed_cost:
            count.refused = True
            self._settle_soon(count)
            self._tally.refused_by_process += 1
            raise self._refused(count, cost, now)
        return self._asked(count, cost, now)

    def read_families(self, principal: Principal, peer: str, family_ids: Collection[int]) -> Awaitable[None] | None:
        """Count the families that a caller is about to read (NEXUS_FAMILY_QUOTA): all of them, or none.

        Raises RateLimited if too many of them are new to the caller today, at once or when awaited.
        """
        return self._families.read(peer if principal.name == STRANGER.name else principal.name, family_ids)

    def _highest(self, roles: frozenset[Role]) -> _Policy | None:
        if not roles:
            return self._general
        policies = [self._of_role[role] for role in roles]
        limited = [policy for policy in policies if policy is not None]
        if len(limited) < len(policies):
            return None
        return max(limited, key=lambda policy: (policy.rate.per_second, policy.rate.amount))

    def _first_seen(self, name: str, policy: _Policy, now: float) -> _Count:
        count = _Count(name, self._shared.name("rate", f"{policy.rate.seconds}:{name}"), policy, now)
        forgotten = policy.keep(count)
        if forgotten is not None and not forgotten.left:
            self._to_settle.pop(forgotten, None)
        return count

    def _asked(self, count: _Count, cost: int, now: float) -> "asyncio.Future[Standing]":
        """Ask Redis, in one call with the others that ask now."""
        wanted = 0
        if not count.asking:
            is_often = now - count.asked_at < _OFTEN_SECONDS
            wanted = min(max(_AHEAD_MIN, 2 * count.ahead), count.policy.rate.amount) if is_often else 0
            count.ahead = wanted
            count.asked_at = now
        count.asking += 1
        waiter: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()
        self._entries.append(_Entry(count, 0, False, cost, wanted, waiter))
        self._exchange_soon()
        return waiter

    def _decided_here(self, count: _Count, cost: int, now: float) -> Standing:
        rate = count.policy.rate
        is_let_in = count.window.spend(now, cost, rate)
        count.remaining = max(0, int(rate.amount - count.window.used(now, rate)))
        count.ends_at = now + count.window.ends_seconds(now, rate)
        count.policy.was_used(count)
        self._settle_soon(count)
        if not is_let_in:
            count.refused = True
            self._tally.refused_by_fallback += 1
            raise self._refused(count, cost, now)
        count.owed += cost
        self._tally.fallback += 1
        return count.standing(now)

    def _refused(self, count: _Count, cost: int, now: float) -> RateLimited:
        rate = count.policy.rate
        wait_seconds = max(1, ceil(count.window.wait_seconds(now, cost, rate)))
        return refusal(Standing(rate.amount, max(0, count.remaining), wait_seconds, rate.seconds, count.policy.name))

    # What goes to Redis, and what comes back

    def _exchange_soon(self) -> None:
        if self._exchanging is None:
            # A context of its own: the exchange belongs to no single request.
            self._exchanging = asyncio.get_running_loop().create_task(self._exchange(), context=Context())

    async def _exchange(self) -> None:
        try:
            while self._entries:
                entries = [self._entries.popleft() for _ in range(min(TOGETHER_MAX, len(self._entries)))]
                arguments: list[str | int] = [0]
                for count, settled, refused, cost, ahead, _ in entries:
                    rate = count.policy.rate
                    arguments += (rate.amount, 1000 * rate.seconds, settled, int(refused), cost, ahead)
                replies = None
                try:
                    replies = await self._shared.run("spend", [entry.of.key for entry in entries], arguments)
                finally:
                    if replies is None:
                        self._not_told(entries)
                if replies is not None:
                    self._told(entries, replies)
        finally:
            self._exchanging = None
            self._tally.show()

    def _told(self, entries: Sequence[_Entry], replies: Sequence[int]) -> None:
        now = monotonic()
        for place, (count, _, _, cost, _, waiter) in enumerate(entries):
            let_in, ahead, passed_ms, before, used = replies[_REPLY * place : _REPLY * (place + 1)]
            rate, window = count.policy.rate, count.window
            window.began, window.before, window.now = now - passed_ms / 1000, before, used
            count.ends_at = window.began + rate.seconds
            count.left += ahead
            count.remaining = max(0, int(rate.amount - window.used(now, rate))) + count.left
            count.policy.was_used(count)
            if ahead:
                self._settle_soon(count)
            if waiter is None:
                continue
            count.asking -= 1
            if let_in:
                self._tally.redis += 1
                if not waiter.done():
                    waiter.set_result(count.standing(now))
            else:
                self._tally.refused_by_redis += 1
                wait_seconds = window.wait_seconds(now, cost, rate)
                count.closed_until, count.closed_cost = now + min(self._tick_seconds, wait_seconds), cost
                if not waiter.done():
                    waiter.set_exception(self._refused(count, cost, now))

    def _not_told(self, entries: Sequence[_Entry]) -> None:
        now = monotonic()
        for count, settled, refused, cost, _, waiter in entries:
            # Redis may have counted it all the same: nothing is given back twice.
            count.owed += max(0, settled)
            count.refused |= refused
            if settled > 0 or refused:
                self._settle_soon(count)
            if waiter is None:
                continue
            count.asking -= 1
            if waiter.done():
                continue
            try:
                waiter.set_result(self._decided_here(count, cost, now))
            except RateLimited as error:
                waiter.set_exception(error)

    async def _exchanged(self) -> None:
        while (exchanging := self._exchanging) is not None:
            await asyncio.wait({exchanging})

    def _settle_soon(self, count: _Count) -> None:
        self._to_settle[count] = None
        self._tick()

    def _tick(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._settle)

    def _settle(self) -> None:
        """Tell Redis what happened since the last tick, and have as much counted ahead as is likely to be used."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tally.show()
        if self._shared.is_away:
            return
        for count in list(islice(self._to_settle, WAITING_MAX)):
            del self._to_settle[count]
            wanted = 2 * count.spent - count.left
            if wanted < 0:
                count.left += wanted
                count.owed += wanted
            count.ahead, count.spent = count.left + max(0, wanted), 0
            if count.owed or count.refused or wanted > 0:
                self._entries.append(_Entry(count, count.owed, count.refused, 0, max(0, wanted)))
                count.owed, count.refused = 0, False
            if count.left:
                self._settle_soon(count)
        if self._to_settle:
            self._tick()  # the rest: after an outage there may be many
        if self._entries:
            self._exchange_soon()

    def _redis_is_away(self) -> None:
        """What was counted ahead is given back: from now on each call is counted here."""
        for count in self._to_settle:
            count.owed -= count.left
            count.window.now = max(0, count.window.now - count.left)
            count.left = count.spent = count.ahead = 0
        while self._entries:
            self._not_told([self._entries.popleft()])

    def _redis_is_back(self) -> None:
        self._settle()
