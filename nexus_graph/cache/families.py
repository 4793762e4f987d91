"""Both levels as one: find, keep, forget."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context

from nexus_graph.cache.memory import FAMILY_CONTACTS_MAX, MemoryFamilies
from nexus_graph.cache.renewal import Renewal
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.config import Settings
from nexus_graph.model import Family, FamilyKey, Identification, Outcome
from nexus_graph.telemetry import CACHE_READS

Read = Callable[[], Awaitable[Family | None]]


class FamilyCache:
    """What readers were told of families, as long as it may be told again."""

    def __init__(self, settings: Settings) -> None:
        self._most_contacts = FAMILY_CONTACTS_MAX
        self._memory = MemoryFamilies(settings)
        self._shared = SharedFamilies(settings) if settings.cache == "both" else None
        self._renewal = Renewal(self._memory, self._shared, settings) if self._shared is not None else None
        self._under_way: dict[tuple[FamilyKey, int | None], asyncio.Task[Family | None]] = {}
        self._counts = {
            (level, result): CACHE_READS.labels(level, result)
            for level in ("process", "shared")
            for result in ("hit", "miss")
        }

    async def family(self, key: FamilyKey, at_least: int | None, read: Read) -> Family | None:
        """The family of the key, of that version at least: as it is kept, or as one `read` gives it to all who wait."""
        family = self._memory.find(key)
        if _serves(family, key, at_least):
            self._counts["process", "hit"].inc()
            if self._memory.old and self._renewal is not None:
                self._renewal.soon()
            return family
        self._counts["process", "miss"].inc()
        asked = (key, at_least)
        reading = self._under_way.get(asked)
        if reading is None:
            # A context of its own: it is nobody's in particular.
            coroutine = self._find_or_read(key, at_least, read)
            reading = asyncio.get_running_loop().create_task(coroutine, context=Context())
            self._under_way[asked] = reading
            reading.add_done_callback(lambda done: self._ended(asked, done))
        return await asyncio.shield(reading)  # who goes away takes nothing from the others

    def keep(self, keys: Iterable[FamilyKey], family: Family) -> None:
        """Remember the family under these keys, unless it is too large or a newer one is known."""
        if len(family.contacts) > self._most_contacts:
            return
        keys = list(keys)
        for key in keys:
            self._memory.keep(key, family)
        if self._shared is not None:
            self._shared.keep(keys, family)

    def identified(self, answer: Identification) -> None:
        """A write was committed: what was kept of its families is stale."""
        family = answer.family
        if answer.outcome is Outcome.LINKED:
            self._forget(family.id, family.version)
        elif answer.outcome is Outcome.MERGED:
            # The family that was taken in was known by one of them; which one, the answer does not say.
            for contact in family.contacts:
                self._forget(contact.id, family.version)

    def _forget(self, family_id: int, version: int) -> None:
        self._memory.forget(family_id, version)
        if self._shared is not None:
            self._shared.forget(family_id, version)

    async def written(self) -> None:
        """Return when the other processes can see what this one kept and forgot, or Redis is in trouble."""
        if self._shared is not None:
            await self._shared.written()

    async def close(self) -> None:
        """Finish what is under way, then stop."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))
        if self._renewal is not None:
            await self._renewal.close()
        if self._shared is not None:
            await self._shared.close()

    def _ended(self, asked: tuple[FamilyKey, int | None], reading: "asyncio.Task[Family | None]") -> None:
        del self._under_way[asked]
        if not reading.cancelled():
            reading.exception()  # known, also where every caller has gone

    async def _find_or_read(self, key: FamilyKey, at_least: int | None, read: Read) -> Family | None:
        if self._shared is not None:
            family = await self._shared.find(key)
            if family is not None and _serves(family, key, at_least):
                self._counts["shared", "hit"].inc()
                self._memory.keep(key, family)
                return family
            self._counts["shared", "miss"].inc()
        family = await read()
        if family is not None and _serves(family, key, None):
            self.keep([key], family)
        return family


def _serves(family: Family | None, key: FamilyKey, at_least: int | None) -> bool:
    """May the family be the answer? Pointers may be stale: it must hold what it was asked by."""
    if family is None or (at_least is not None and family.version < at_least):
        return False
    return family.is_known_by(key)
