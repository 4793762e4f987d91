"""Both levels as one: find, keep, forget."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from functools import cache
from typing import Final

from nexus_graph.cache.memory import FAMILY_CONTACTS_MAX, MemoryFamilies
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.config import Settings
from nexus_graph.gather.bounds import READS_MAX
from nexus_graph.model import Family, FamilyKey, Identification, Outcome
from nexus_graph.telemetry import CACHE_READS

Read = Callable[[], Awaitable[Family | None]]

_TOGETHER: Final = 0.05
"""The part of a family's life in a process during which those that are to be renewed come together."""

_reads = cache(CACHE_READS.labels)


class FamilyCache:
    """Families that readers got, for as long as they may be returned again."""

    def __init__(self, settings: Settings) -> None:
        self._memory = MemoryFamilies(settings)
        self._shared = SharedFamilies(settings) if settings.cache == "both" else None
        self._renewal = _Renewal(self._memory, self._shared, settings) if self._shared is not None else None
        self._under_way: dict[tuple[FamilyKey, int | None], asyncio.Task[Family | None]] = {}

    async def family(self, key: FamilyKey, at_least: int | None, read: Read) -> Family | None:
        """The family of the key, of that version at least: from the cache, or from one `read` that all waiting callers
        share.
        """
        family = self._memory.find(key)
        if _serves(family, key, at_least):
            _reads("process", "hit").inc()
            if self._memory.old and self._renewal is not None:
                self._renewal.soon()
            return family
        _reads("process", "miss").inc()
        asked = (key, at_least)
        reading = self._under_way.get(asked)
        if reading is None:
            # A context of its own: the read belongs to no single request.
            coroutine = self._find_or_read(key, at_least, read)
            reading = asyncio.get_running_loop().create_task(coroutine, context=Context())
            self._under_way[asked] = reading
            reading.add_done_callback(lambda done: self._ended(asked, done))
        return await asyncio.shield(reading)  # a caller that leaves does not cancel the others' read

    def keep(self, keys: Iterable[FamilyKey], family: Family) -> None:
        """Remember the family under these keys, unless it is too large or a newer one is known."""
        if len(family.contacts) > FAMILY_CONTACTS_MAX:
            return
        keys = list(keys)
        for key in keys:
            self._memory.keep(key, family)
        if self._shared is not None:
            self._shared.keep(keys, family)

    def identified(self, answer: Identification) -> None:
        """A write was committed: cached states of its families are stale."""
        family = answer.family
        if answer.outcome is Outcome.LINKED:
            self._forget(family.id, family.version)
        elif answer.outcome is Outcome.MERGED:
            # One of these identifiers led to the family that was taken in; the answer does not say which.
            for contact in family.contacts:
                self._forget(contact.id, family.version)

    def _forget(self, family_id: int, version: int) -> None:
        self._memory.forget(family_id, version)
        if self._shared is not None:
            self._shared.forget(family_id, version)

    async def written(self) -> None:
        """Return once other processes can see this process's changes, or Redis is in trouble."""
        if self._shared is not None:
            await self._shared.written()

    async def close(self) -> None:
        """Finish the work under way, then stop."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))
        if self._renewal is not None:
            await self._renewal.close()
        if self._shared is not None:
            await self._shared.close()

    def _ended(self, asked: tuple[FamilyKey, int | None], reading: "asyncio.Task[Family | None]") -> None:
        del self._under_way[asked]
        if not reading.cancelled():
            reading.exception()  # retrieved, so that asyncio does not log it

    async def _find_or_read(self, key: FamilyKey, at_least: int | None, read: Read) -> Family | None:
        if self._shared is not None:
            family = await self._shared.find(key)
            if family is not None and _serves(family, key, at_least):
                _reads("shared", "hit").inc()
                self._memory.keep(key, family)
                return family
            _reads("shared", "miss").inc()
        family = await read()
        if family is not None and _serves(family, key, None):
            self.keep([key], family)
        return family


class _Renewal:
    """Reads again from the second level, before its life in the first ends, what is still asked for: together, and
    behind the readers' backs. A family that the second no longer has is dropped from the first.
    """

    def __init__(self, memory: MemoryFamilies, shared: SharedFamilies, settings: Settings) -> None:
        self._memory = memory
        self._shared = shared
        self._seconds = _TOGETHER * settings.cache_process_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """Renew what is old, with what is about to be."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._start)

    async def close(self) -> None:
        """Finish what is under way."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._renew(), context=Context())

    async def _renew(self) -> None:
        try:
            old, self._memory.old = list(self._memory.old), set()
            for first in range(0, len(old), READS_MAX):
                for family_id, family in (await self._shared.again(old[first : first + READS_MAX])).items():
                    if family is None:
                        self._memory.drop(family_id)
                    else:
                        self._memory.renew(family)
        finally:
            self._timer = self._task = None


def _serves(family: Family | None, key: FamilyKey, at_least: int | None) -> bool:
    """True if the family may be the answer: pointers may be stale, so it must hold the key."""
    if family is None or (at_least is not None and family.version < at_least):
        return False
    return family.is_known_by(key)
