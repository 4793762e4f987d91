"""How many different families a caller may read in a day (UTC): a bound on scraping. Off unless NEXUS_FAMILY_QUOTA is
set.

The count is exact: Redis keeps the ids that a caller has read today in a set of whole numbers, of at most the quota (8
bytes each for the first 512, some 60 from then on). A HyperLogLog needs 12 kB and errs by 0.8 % in the mean, so that it
would miss the hundredth part by which the quota must hold every fourth time. Families that were read today cost
nothing.

A process remembers the ids that it has counted, `REMEMBERED_MAX` of all callers, and asks Redis for others only. While
Redis is away each process counts for itself, from what Redis last said, and tells Redis later; a process that can
remember no more ids refuses new families then, rather than lose count.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Collection
from itertools import islice
from time import time
from typing import Final

from nexus_graph.config import Settings
from nexus_graph.door.counting import SharedCounts
from nexus_graph.door.standing import Standing, refusal
from nexus_graph.errors import Unavailable
from nexus_graph.telemetry import FAMILY_QUOTA_DECISIONS

REMEMBERED_MAX: Final = 200_000
"""Ids of families that a process remembers as read, of all callers together; past it the caller who was quiet for
longest is forgotten, and asked for in Redis again."""

OWED_MAX: Final = 500
"""Ids that one call tells Redis of after it was away."""


_DAY_SECONDS: Final = 86_400
_GRACE_SECONDS: Final = 3_600
"""Redis keeps a day's set for so much longer: clocks of processes differ."""


class _Reader:
    """What a process knows of one caller's reads of a day."""

    __slots__ = ("counted", "ids", "key", "owed")

    def __init__(self, key: str) -> None:
        self.key = key
        self.ids: set[int] = set()
        """Counted, as far as this process knows."""
        self.owed: set[int] = set()
        """Those of which Redis has not heard."""
        self.counted = 0
        """Families that the caller has read at least, with any process."""


class FamilyQuota:
    """Counts the families that callers read."""

    def __init__(self, settings: Settings, shared: SharedCounts) -> None:
        self._quota = settings.family_quota_families
        self._shared = shared
        self._remembered_max = REMEMBERED_MAX
        self._readers: OrderedDict[str, _Reader] = OrderedDict()
        self._remembered = 0
        self._day = 0

    def read(self, caller: str, family_ids: Collection[int]) -> Awaitable[None] | None:
        """Count these families as read by the caller; None if all is well already, else an awaitable that says so.

        Raises RateLimited if the quota does not hold all of them, then none is counted; and Unavailable if neither
        Redis nor this process can count.
        """
        if self._quota is None:
            return None
        now = time()
        self._begin_day(int(now // _DAY_SECONDS))
        reader = self._readers.get(caller)
        if reader is None:
            reader = self._readers[caller] = _Reader(self._shared.name("families", f"{self._day}:{caller}"))
        self._readers.move_to_end(caller)
        new = set(family_ids) - reader.ids
        if not new:
            return None
        if self._shared.is_away:
            self._count_here(reader, new)
            return None
        return self._count(reader, new)

    async def _count(self, reader: _Reader, new: set[int]) -> None:
        quota = self._quota or 0
        owed = list(islice(reader.owed, OWED_MAX))
        kept_seconds = round(_DAY_SECONDS - time() % _DAY_SECONDS) + _GRACE_SECONDS
        arguments = [quota, kept_seconds, reader.counted, len(owed), *owed, *new]
        answer = await self._shared.run("read_families", [reader.key], arguments)
        if answer is None:
            self._count_here(reader, new)
            return
        is_let_in, reader.counted = bool(answer[0]), max(reader.counted, answer[1])
        reader.owed.difference_update(owed)
        FAMILY_QUOTA_DECISIONS.labels("let_in" if is_let_in else "refused", "redis").inc()
        if not is_let_in:
            raise refusal(self._standing(reader))
        self._remember(reader, new)

    def _count_here(self, reader: _Reader, new: set[int]) -> None:
        quota = self._quota or 0
        if reader.counted + len(new) > quota:
            FAMILY_QUOTA_DECISIONS.labels("refused", "fallback").inc()
            raise refusal(self._standing(reader))
        if self._remembered + len(new) > self._remembered_max:
            FAMILY_QUOTA_DECISIONS.labels("refused", "fallback").inc()
            raise Unavailable("reads cannot be counted at the moment")
        FAMILY_QUOTA_DECISIONS.labels("let_in", "fallback").inc()
        reader.counted += len(new)
        reader.owed |= new
        self._remember(reader, new)

    def _remember(self, reader: _Reader, new: set[int]) -> None:
        known = len(reader.ids)
        reader.ids |= new
        self._remembered += len(reader.ids) - known
        while self._remembered > self._remembered_max:
            _, quiet = self._readers.popitem(last=False)
            self._remembered -= len(quiet.ids)
            quiet.ids = set()  # it may be the reader at hand, who is then asked for in Redis again

    def _begin_day(self, day: int) -> None:
        if day != self._day:
            self._day = day
            self._readers.clear()
            self._remembered = 0

    def _standing(self, reader: _Reader) -> Standing:
        quota = self._quota or 0
        left_seconds = max(1, round(_DAY_SECONDS - time() % _DAY_SECONDS))
        return Standing(quota, max(0, quota - reader.counted), left_seconds, _DAY_SECONDS, "families")
