"""`nexus-graph keys`: API keys, made, shown, revoked and rotated.

A new key goes to stdout, alone on its line, and everything about it to stderr: `KEY=$(nexus-graph keys create …)`.
"""

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from nexus_graph.config import Settings
from nexus_graph.door.issuing import Issued, Listed, Made, create, listed, revoke, rotate
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Connection, away, is_servers_trouble, open_connection

_T = TypeVar("_T")


async def run_create(
    settings: Settings, name: str, roles: list[Role], lasts_seconds: float | None, *, as_json: bool = False
) -> int:
    """Returns 0 once the key works."""
    made = await _asked(settings, lambda connection: create(connection, name, roles, lasts_seconds))
    if as_json:
        _print_json(_with_text(made))
    else:
        _show(made)
    return 0


async def run_rotate(
    settings: Settings, key_id: str, overlap_seconds: float, lasts_seconds: float | None, *, as_json: bool = False
) -> int:
    """Returns 0 once the new key works."""
    former, made = await _asked(
        settings,
        lambda connection: rotate(connection, key_id, overlap_seconds=overlap_seconds, lasts_seconds=lasts_seconds),
    )
    if as_json:
        _print_json(_with_text(made) | {"replaces": former.id, "replaced_works_until": _iso(former.expires_at)})
    else:
        _show(made)
        _tell(f"the former key, {former.id}, works until {_time(former.expires_at)} UTC")
    return 0


async def run_revoke(settings: Settings, key_id: str, *, as_json: bool = False) -> int:
    """Returns 0 once the key is revoked."""
    key = await _asked(settings, lambda connection: revoke(connection, key_id))
    if as_json:
        _print_json(_facts(key))
    else:
        sys.stdout.write(f"revoked {key.id} ({key.name}): every process refuses it within a second\n")
    return 0


async def run_list(settings: Settings, *, as_json: bool = False) -> int:
    """Returns 0."""
    keys = await _asked(settings, listed)
    if as_json:
        _print_json([_facts(key) | {"works": works} for key, works in keys])
    elif keys:
        sys.stdout.write(_table(keys))
    else:
        sys.stdout.write("no keys: make one with `nexus-graph keys create --name NAME --role ROLE`\n")
    return 0


async def _asked(settings: Settings, verb: Callable[[Connection], Awaitable[_T]]) -> _T:
    """What the verb gives, by a connection of the record's owner. Raises KeyRefused, Unavailable."""
    async with open_connection(settings) as connection:
        try:
            return await verb(connection)
        except Exception as error:
            if not is_servers_trouble(error):
                raise
            raise away(settings, "direct", error) from error


def _with_text(made: Made) -> dict[str, Any]:
    return {"id": made.key.id, "name": made.key.name, "roles": made.key.roles, "key": made.text}


def _facts(key: Issued) -> dict[str, Any]:
    """Every column that holds no secret."""
    return {name: _iso(value) if isinstance(value, datetime) else value for name, value in key._asdict().items()}


def _show(made: Made) -> None:
    key = made.key
    ends = "never expires" if key.expires_at is None else f"expires {_time(key.expires_at)} UTC"
    _tell(f"key {key.id} ({key.name}; {', '.join(key.roles)}; {ends}). It is shown this once:")
    sys.stdout.write(f"{made.text}\n")


def _table(keys: list[Listed]) -> str:
    rows = [("id", "name", "roles", "made (UTC)", "last used", "state")]
    for key, works in keys:
        times = _time(key.created_at), _time(key.last_used_at)
        rows.append((key.id, key.name, ", ".join(key.roles), *times, _state(key, works=works)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def _state(key: Issued, *, works: bool) -> str:
    if key.revoked_at is not None:
        return f"revoked {_time(key.revoked_at)}"
    if key.expires_at is None:
        return "works"
    state = f"works until {_time(key.expires_at)}" if works else f"expired {_time(key.expires_at)}"
    return state if key.successor_id is None else f"{state}, then {key.successor_id}"


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
