"""API keys: how one is written, which are refused before any look-up, and the work of each check."""

import re
from collections.abc import Callable
from hashlib import sha256
from math import inf
from typing import Any
from zlib import crc32

import pytest
from prometheus_client import REGISTRY

from nexus_graph.config import Settings
from nexus_graph.door import keys
from nexus_graph.door.keys import ApiKeys, Check, NewKey, key_text, new_key
from nexus_graph.door.permissions import Role
from nexus_graph.door.principal import ANYONE
from nexus_graph.errors import KeysUnavailable, Unauthenticated
from tests.stage.counting import lines_run

NOW = 1_800_000_000.0
WORKING, REVOKED, EXPIRED, EXPIRING = (new_key() for _ in range(4))
LONG = 64 * 1024


@pytest.fixture
def refusals() -> list[tuple[Check, str | None]]:
    return []


@pytest.fixture
async def held(monkeypatch: pytest.MonkeyPatch, refusals: list[tuple[Check, str | None]]) -> ApiKeys:
    """Keys as if they had just been read from a record."""
    monkeypatch.setattr(keys, "time", lambda: NOW)
    api_keys = ApiKeys(Settings(), on_refused=lambda *refusal: refusals.append(refusal))
    await api_keys._hold(
        [
            (WORKING.id, ["service", "reader", "a role of tomorrow"], WORKING.secret_hash, None, False),
            (REVOKED.id, ["service"], REVOKED.secret_hash, None, True),
            (EXPIRED.id, ["service"], EXPIRED.secret_hash, NOW, False),
            (EXPIRING.id, ["service"], EXPIRING.secret_hash, NOW + 0.001, False),
        ]
    )
    api_keys._good_until = inf
    return api_keys


def of_another(key: NewKey) -> bytes:
    """A key with this one's id and a secret of nobody's."""
    return key_text(key.id, new_key().text[17:81]).encode()


BAD: dict[str, tuple[bytes, Check, str | None]] = {
    "unknown": (new_key().text.encode(), Check.UNKNOWN, None),
    "wrong secret": (of_another(WORKING), Check.WRONG_SECRET, None),
    "wrong secret of a revoked key": (of_another(REVOKED), Check.WRONG_SECRET, None),
    "revoked": (REVOKED.text.encode(), Check.REVOKED, REVOKED.id),
    "expired": (EXPIRED.text.encode(), Check.EXPIRED, EXPIRED.id),
    "empty": (b"", Check.MALFORMED, None),
    "shortened": (WORKING.text[:-1].encode(), Check.MALFORMED, None),
    "lengthened": (WORKING.text.encode() + b"0", Check.MALFORMED, None),
    "with a line's end": (WORKING.text.encode() + b"\n", Check.MALFORMED, None),
    "in capitals": (WORKING.text.upper().encode(), Check.MALFORMED, None),
    "without its checksum": (WORKING.text[:81].encode(), Check.MALFORMED, None),
    "over-long": (WORKING.text.encode() * (LONG // 89), Check.MALFORMED, None),
    "a word": (b"secret", Check.MALFORMED, None),
    "no text": (bytes(range(256)), Check.MALFORMED, None),
    "the stored hash": (key_text(WORKING.id, WORKING.secret_hash.hex()).encode(), Check.WRONG_SECRET, None),
}


def test_a_key_is_written_as_the_module_says() -> None:
    key = new_key()
    found = re.fullmatch(r"(nxk_([0-9a-f]{12})_([0-9a-f]{64}))([0-9a-f]{8})", key.text)
    assert found is not None
    checked, key_id, secret, checksum = found.groups()
    assert key_id == key.id
    assert int(checksum, 16) == crc32(checked.encode())
    assert key.secret_hash == sha256(secret.encode()).digest()
    assert len({new_key().text for _ in range(100)}) == 100


def test_no_typing_error_gets_past_the_checksum() -> None:
    """Every other character in every place, and every swap of neighbours. CRC-32 is linear: what it finds in one key it
    finds in all.
    """
    text = new_key().text.encode()
    assert keys._is_sound(text)
    for place in range(len(text)):
        for character in range(256):
            mistyped = text[:place] + bytes([character]) + text[place + 1 :]
            assert keys._is_sound(mistyped) == (mistyped == text)
        swapped = text[:place] + text[place : place + 2][::-1] + text[place + 2 :]
        assert keys._is_sound(swapped) == (swapped == text)


def test_a_key_has_one_spelling() -> None:
    """Its bearer could make the checksum of another."""
    for other in (f"nxk_{WORKING.id}-{WORKING.text[17:81]}", f"NXK_{WORKING.id}_{WORKING.text[17:81]}"):
        assert not keys._is_sound(f"{other}{crc32(other.encode()):08x}".encode())


async def test_a_working_key_names_its_holder(held: ApiKeys, refusals: list[tuple[Check, str | None]]) -> None:
    holder = held.principal(WORKING.text.encode())
    assert (holder.name, holder.roles, holder.expires_at) == (
        f"key:{WORKING.id}",
        frozenset({Role.SERVICE, Role.READER}),
        None,
    )
    assert held.principal(EXPIRING.text.encode()).expires_at == NOW + 0.001
    assert held.principal(WORKING.text.encode()) is holder
    assert refusals == []


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_key_gets_the_one_answer(
    held: ApiKeys, refusals: list[tuple[Check, str | None]], kind: str
) -> None:
    presented, check, key_id = BAD[kind]
    before = _counted(check)
    with pytest.raises(Unauthenticated) as refused:
        held.principal(presented)
    error = refused.value
    assert (error.message, error.fields, error.facts, error.status, error.code, error.challenge) == (
        "the credentials are not valid",
        (),
        {},
        401,
        "UNAUTHENTICATED",
        'Bearer error="invalid_token"',
    )
    assert refusals == [(check, key_id)]
    assert _counted(check) == before + 1


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_key_costs_the_same_work(held: ApiKeys, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """One checksum, one hash and one comparison, whatever was presented and however long."""
    work: list[tuple[str, int]] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            work.append((name, len(arguments[0])))
            return function(*arguments)

        return call

    for name in ("crc32", "sha256", "compare_digest"):
        monkeypatch.setattr(keys, name, counted(name, getattr(keys, name)))
    presented, _, _ = BAD[kind]
    with pytest.raises(Unauthenticated):
        held.principal(presented)
    assert [name for name, _ in work] == ["crc32", "sha256", "compare_digest"]
    assert all(length <= size for (_, length), size in zip(work, (81, 64, 32), strict=True))


async def test_bad_keys_run_about_as_many_lines(held: ApiKeys) -> None:
    def checked(presented: bytes) -> None:
        with pytest.raises(Unauthenticated):
            held.principal(presented)

    def fewest(presented: bytes) -> int:
        return min(lines_run(lambda: checked(presented)) for _ in range(3))  # the collector runs lines of others

    lines = {kind: fewest(presented) for kind, (presented, _, _) in BAD.items()}
    assert max(lines.values()) - min(lines.values()) <= 5, lines


async def test_a_key_of_no_known_id_is_compared_with_what_no_secret_has(held: ApiKeys) -> None:
    assert keys._NOBODY.revoked
    assert not keys._NOBODY.principal.grants


async def test_only_a_key_that_works_is_live(held: ApiKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, other = held.principal(WORKING.text.encode()), held.principal(EXPIRING.text.encode())
    assert held.is_live(holder)
    assert held.is_live(other)
    monkeypatch.setattr(keys, "time", lambda: NOW + 0.001)
    assert held.is_live(holder)
    assert not held.is_live(other)
    assert not held.is_live(ANYONE)
    await held._hold([(WORKING.id, ["reader"], WORKING.secret_hash, None, False)])
    assert not held.is_live(holder)
    await held._hold([])
    assert not held.is_live(holder)


@pytest.mark.parametrize(
    "presented", [WORKING.text.encode(), REVOKED.text.encode(), b""], ids=["working", "revoked", "empty"]
)
async def test_nobody_comes_in_by_keys_that_are_too_old(
    held: ApiKeys, refusals: list[tuple[Check, str | None]], presented: bytes
) -> None:
    holder = held.principal(WORKING.text.encode())
    held._good_until = -inf
    with pytest.raises(KeysUnavailable) as refused:
        held.principal(presented)
    assert (refused.value.status, refused.value.retry_after_seconds) == (503, 1)
    assert refusals == [(Check.RECORD_AWAY, None)]
    with pytest.raises(KeysUnavailable):
        held.is_live(holder)


def _counted(check: Check) -> float:
    return REGISTRY.get_sample_value("nexus_key_checks_total", {"result": check.value}) or 0.0
