"""The first level: a few families in the memory of this process, for a moment."""

from collections import OrderedDict
from time import monotonic
from typing import Final, NamedTuple

from nexus_graph.config import Settings
from nexus_graph.model import Family, FamilyKey

_OLD: Final = 0.5
"""The part of its life that is left when a family that is asked for is old."""


class _Kept(NamedTuple):
    version: int
    family: Family | None
    """None: a tombstone, "older ones are stale"."""
    until: float


class MemoryFamilies:
    """Bounded by number and by time; what was used least recently goes first."""

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.cache_process_seconds
        self._most = settings.cache_process_families
        self._most_keys = settings.cache_process_keys
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._pointers: OrderedDict[FamilyKey, int] = OrderedDict()
        self._old_seconds = _OLD * settings.cache_process_seconds
        self.old: set[int] = set()
        """Families that were found late in their lives: they are worth another read."""

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
        """Remember the family, unless a newer one is known: by the key, and a new one by all it can be asked for by."""
        held = self._kept.get(family.id)
        is_new = held is None or held.family is None or held.version < family.version
        self.renew(family)
        for one in family.known_by() if is_new else (key,):
            self._pointers[one] = family.id
            self._pointers.move_to_end(one)
        while len(self._pointers) > self._most_keys:
            self._pointers.popitem(last=False)

    def renew(self, family: Family) -> None:
        """As `keep`, for the keys that lead to it already."""
        held = self._kept.get(family.id)
        if held is None or held.version <= family.version:
            self._put(family.id, _Kept(family.version, family, monotonic() + self._seconds))

    def forget(self, family_id: int, version: int) -> None:
        """Families of this id older than the version are stale."""
        held = self._kept.get(family_id)
        if held is None or held.version < version:
            self._put(family_id, _Kept(version, None, monotonic() + self._seconds))

    def drop(self, family_id: int) -> None:
        """It is not what should be told any longer."""
        self.old.discard(family_id)
        self._kept.pop(family_id, None)

    def _put(self, family_id: int, kept: _Kept) -> None:
        self.old.discard(family_id)
        self._kept[family_id] = kept
        self._kept.move_to_end(family_id)
        if len(self._kept) > self._most:
            self.old.discard(self._kept.popitem(last=False)[0])
