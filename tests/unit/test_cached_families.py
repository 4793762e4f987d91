"""What a process keeps of families in its memory, without Redis."""

from datetime import UTC, datetime

import pytest

from nexus_graph.cache.families import FamilyCache
from nexus_graph.config import Settings
from nexus_graph.model import Contact, Family, FamilyKey, Identification, Outcome, Source

START = datetime(2026, 1, 1, tzinfo=UTC)


def _family(*ids: int, version: int) -> Family:
    contacts = tuple(Contact(number, f"{number}@x.example", None, START) for number in ids)
    return Family(version, contacts, Source.GRAPH)


def _key(contact_id: int) -> FamilyKey:
    return FamilyKey("contact", contact_id)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> FamilyCache:
    monkeypatch.setattr("nexus_graph.cache.memory.FAMILIES_MAX", 5)
    return FamilyCache(Settings(cache="process", cache_process_seconds=600))


def test_a_union_of_the_largest_families_pushes_no_other_family_out(cache: FamilyCache) -> None:
    others = [_family(number, version=1) for number in range(5_001, 5_006)]
    for family in others:
        cache.keep([_key(family.id)], family)
    cache.identified(Identification(Outcome.MERGED, _family(*range(1, 1_001), version=9)))
    assert [cache._memory.find(_key(family.id)) for family in others] == others


def test_a_slow_reader_brings_back_neither_side_of_a_union(cache: FamilyCache) -> None:
    for family_id in (1, 2):
        cache.keep([_key(family_id)], _family(family_id, version=family_id))
    union = _family(1, 2, version=9)
    cache.identified(Identification(Outcome.MERGED, union))
    for family_id in (1, 2):
        assert cache._memory.find(_key(family_id)) is None
        cache.keep([_key(family_id)], _family(family_id, version=8))
        assert cache._memory.find(_key(family_id)) is None
    cache.keep([_key(1)], union)
    assert cache._memory.find(_key(2)) == union
