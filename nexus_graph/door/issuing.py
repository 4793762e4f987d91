"""Make, revoke and rotate API keys, as the owner of the record; `door/keys.py` lets their bearers in.

Each verb is one transaction, with an entry of the audit trail for a key that changed; it raises what the driver raises.
"""

from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from nexus_graph.door.audit import Entry, Outcome, What, append, now
from nexus_graph.door.keys import KEYS_HELD_MAX, new_key
from nexus_graph.door.permissions import Role
from nexus_graph.errors import NexusError
from nexus_graph.statements import sql
from nexus_graph.store.database import Connection

KEYS_WORKING_MAX: Final = KEYS_HELD_MAX // 2
"""Keys that may work at a time. Every process holds all of them, and as many that have ended."""


class KeyRefused(NexusError):
    """The key cannot be made or changed so."""


class Issued(NamedTuple):
    """A key as an operator sees it: all but its secret."""

    id: str
    name: str
    roles: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """The beginning of the hour in which it last let a caller in."""
    successor_id: str | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> "Issued":
        return cls(*(row[name] for name in cls._fields))


class Listed(NamedTuple):
    """A key, and whether it lets its bearer in now."""

    key: Issued
    works: bool


class Made(NamedTuple):
    """A new key. Its text stands nowhere else."""

    key: Issued
    text: str


class Rotated(NamedTuple):
    """The key that was, with the time until which it works, and its successor."""

    former: Issued
    made: Made


async def create(connection: Connection, name: str, roles: list[Role], lasts_seconds: float | None) -> Made:
    """A new key; `lasts_seconds` None: it never expires. Raises KeyRefused if as many work as may."""
    async with connection.transaction():
        await connection.fetchval(sql("api_keys_lock"))
        made = await _made(connection, name, sorted(set(roles)), lasts_seconds)
        await _note(connection, What.KEY_CREATE, made.key.id)
        return made


async def rotate(
    connection: Connection, key_id: str, *, overlap_seconds: float, lasts_seconds: float | None = None
) -> Rotated:
    """A key in place of another: with its name and roles, made to last as long as that one was, or `lasts_seconds`.
    Both work for `overlap_seconds`. Raises KeyRefused if there is no such key, or if it has ended or has a successor.
    """
    async with connection.transaction():
        await connection.fetchval(sql("api_keys_lock"))
        found = await connection.fetchrow(sql("api_keys_find"), key_id)
        if found is None:
            raise _unknown()
        if not found["works"]:
            raise KeyRefused(f"key {key_id} works no more: make a new one with `nexus-graph keys create`")
        if found["successor_id"] is not None:
            raise KeyRefused(f"key {key_id} was rotated before: rotate its successor, {found['successor_id']}")
        lasts = found["lasts_seconds"] if lasts_seconds is None else lasts_seconds
        made = await _made(connection, found["name"], found["roles"], lasts)
        former = await connection.fetchrow(sql("api_keys_replace"), key_id, overlap_seconds, made.key.id)
        assert former is not None
        await _note(connection, What.KEY_ROTATE, key_id)
        return Rotated(Issued.of(former), made)


async def revoke(connection: Connection, key_id: str) -> Issued:
    """The key, which lets nobody in from now on; every process knows within a second. To revoke one again changes
    nothing. Raises KeyRefused if there is no such key.
    """
    async with connection.transaction():
        await connection.fetchval(sql("api_keys_lock"))
        found = await connection.fetchrow(sql("api_keys_find"), key_id)
        if found is None:
            raise _unknown()
        row = await connection.fetchrow(sql("api_keys_revoke"), key_id)
        if found["revoked_at"] is None:
            await _note(connection, What.KEY_REVOKE, key_id)
    assert row is not None
    return Issued.of(row)


async def listed(connection: Connection) -> list[Listed]:
    """Keys in the order they were made: all that work, and those that ended last, as many as a process holds."""
    rows = await connection.fetch(sql("api_keys_list"), KEYS_HELD_MAX)
    return [Listed(Issued.of(row), row["works"]) for row in rows]


async def _made(connection: Connection, name: str, roles: list[Any], lasts_seconds: float | None) -> Made:
    key_id, text, secret_hash = new_key()
    row = await connection.fetchrow(
        sql("api_keys_create"), key_id, name, roles, secret_hash, lasts_seconds, KEYS_WORKING_MAX
    )
    if row is None:
        raise KeyRefused(f"{KEYS_WORKING_MAX:,} keys work now, as many as may: revoke some first")
    return Made(Issued.of(row), text)


async def _note(connection: Connection, what: What, key_id: str) -> None:
    await append(connection, [Entry("command", what, Outcome.CHANGED, None, (), now(), subject=f"key:{key_id}")])


def _unknown() -> KeyRefused:
    # It may be a key itself that was given in place of an id, so it is not repeated.
    return KeyRefused("no key has this id: `nexus-graph keys list` shows all")
