"""The first level: a few families in the memory of this process, for a moment."""

from collections import OrderedDict
from time import monotonic
from typing import Final, NamedTuple

from nexus_graph.config import Settings
from nexus_graph.model import Family, FamilyKey

FAMILIES_MAX: Final = 2_000
"""Families that a process keeps; past it the least recently used goes. Those of usual size take some megabytes."""

KEYS_MAX: Final = 20_000
"""Contacts, emails and phones by which a process finds its families; past it the least recently used goes."""

FAMILY_CONTACTS_MAX: Final = 200
"""Contacts of the largest family that is kept: a larger one costs more memory and time than its next read."""


_OLD: Final = 0.5
"""The part of its life that is left when a family that is asked for is old."""


_STALE_MAX: Final = 20_000
"""Families whose older versions are known to be stale: a union of the largest families makes a thousand. An entry is an
id and a version; past the bound the oldest goes."""


class _Kept(NamedTuple):
    family: Family
    until: float


class MemoryFamilies:
    """Bounded by number and by time: the least recently used family goes first."""

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.cache_process_seconds
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._pointers: OrderedDict[FamilyKey, int] = OrderedDict()
        self._stale: OrderedDict[int, int] = OrderedDict()
        """Versions by family id: an older one must not be kept. Apart from the families, as one union brings many."""
        self._old_seconds = _OLD * settings.cache_process_seconds
        self.old: set[int] = set()
        """Families that were asked for late in their lives: they are worth another read."""

    def find(self, key: FamilyKey) -> Family | None:
        """The family that was kept by this key; None if there is none, or it grew too old."""
        family_id = self._pointers.get(key)
        if family_id is None:
            if not isinstance(key.value, int):
                return None
            family_id = key.value
        kept = self._kept.get(family_id)
        if kept is None or (left_seconds := kept.until - monotonic()) < 0:
            return None
        self._kept.move_to_end(family_id)
        if left_seconds < self._old_seconds:
            self.old.add(family_id)
        return kept.family

    def keep(self, key: FamilyKey, family: Family) -> None:
        """Keep the family, unless a newer version is known: by the key, a new version by all that it is known by."""
        held = self._kept.get(family.id)
        is_new = held is None or held.family.version < family.version
        self.renew(family)
        for one in family.known_by() if is_new else (key,):
            self._pointers[one] = family.id
            self._pointers.move_to_end(one)
        while len(self._pointers) > KEYS_MAX:
            self._pointers.popitem(last=False)

    def renew(self, family: Family) -> None:
        """Keep the family, unless a newer version is known, for the keys that lead to it already."""
        held = self._kept.get(family.id)
        newest = max(held.family.version if held is not None else 0, self._stale.get(family.id, 0))
        if newest > family.version:
            return
        self.old.discard(family.id)
        self._kept[family.id] = _Kept(family, monotonic() + self._seconds)
        self._kept.move_to_end(family.id)
        if len(self._kept) > FAMILIES_MAX:
            self.old.discard(self._kept.popitem(last=False)[0])

    def forget(self, family_id: int, version: int) -> None:
        """Versions of this family older than this one are stale."""
        held = self._kept.get(family_id)
        if held is not None and held.family.version >= version:
            return
        self.drop(family_id)
        self._stale[family_id] = max(version, self._stale.get(family_id, 0))
        self._stale.move_to_end(family_id)
        if len(self._stale) > _STALE_MAX:
            self._stale.popitem(last=False)

    def drop(self, family_id: int) -> None:
        """The family is no longer what readers should get."""
        self.old.discard(family_id)
        self._kept.pop(family_id, None)
