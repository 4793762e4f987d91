"""`nexus-graph audit`: the trail verified, exported, and cut, by the schema's owner, who alone may read the trail."""

import csv
import json
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from nexus_graph.config import Settings
from nexus_graph.door.audit_chain import Fault, Head, Report, StoredEntry, Walk, read_head, walked
from nexus_graph.failures import CANNOT_GO_ON, say
from nexus_graph.statements import sql
from nexus_graph.store.database import Connection, is_busy, open_connection

Format = Literal["jsonl", "csv"]

FETCHED_ENTRIES: Final = 1_000
"""Entries in memory at once: more of them make no command faster."""

LOCKS_WAIT_MS: Final = 1_000
"""How long a retention waits for exports under way; no entry is stored meanwhile."""


async def verify(settings: Settings, *, head_file: Path | None = None, as_json: bool = False) -> int:
    """Returns 0 if the chain is whole, else 1 and a report. `head_file`: default is that of the settings."""
    # Before the chain is read: entries come in meanwhile, and the file is never ahead of what is stored.
    kept, unreadable = _head_of(head_file or settings.audit_head_file)
    async with (
        open_connection(settings) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        report = await _walk(connection, kept)
    if unreadable:
        report.add(Fault.FILE_UNREADABLE)
    sys.stdout.write(json.dumps(report.as_json()) + "\n" if as_json else "\n".join(report.lines()) + "\n")
    return 1 if report.faults else 0


def _head_of(path: Path | None) -> tuple[Head | None, bool]:
    """The head that the file keeps, and whether there should be one and is none."""
    if path is None:
        return None, False
    try:
        head = read_head(path)
    except OSError:
        head = None
    return head, head is None


async def _walk(connection: Connection, kept: Head | None) -> Report:
    walk = Walk(await _stubs(connection), kept)
    await walked(walk, _entries(connection, None, None))
    rows = await connection.fetch(sql("audit_head"))
    return walk.end(Head(*rows[0]) if rows else None)


async def _stubs(connection: Connection) -> list[Head]:
    return [Head(*row) for row in await connection.fetch(sql("audit_stubs"))]


async def _entries(
    connection: Connection, first: datetime | None, until: datetime | None
) -> AsyncIterator[StoredEntry]:
    """The entries, FETCHED_ENTRIES in memory at a time, on both sides. A transaction must be open."""
    await connection.fetch(sql("audit_streaming"))
    async for row in connection.cursor(sql("audit_entries"), first, until, prefetch=FETCHED_ENTRIES):
        yield StoredEntry(*row)


async def export(settings: Settings, *, first: datetime | None, until: datetime | None, form: Format) -> int:
    """Print the entries that were stored from `first` until before `until`, in order. Returns 0."""
    table = csv.writer(sys.stdout)
    if form == "csv":
        table.writerow(StoredEntry._fields)
    async with open_connection(settings) as connection, connection.transaction(readonly=True):
        async for entry in _entries(connection, first, until):
            shown: dict[str, object] = entry._asdict() | {"hash": entry.hash.hex()}
            if form == "csv":
                table.writerow((shown | {"family_ids": " ".join(map(str, entry.family_ids))}).values())
            else:
                sys.stdout.write(msgspec.json.encode(shown).decode() + "\n")
    return 0


async def retain(settings: Settings, *, months: int, as_json: bool = False) -> int:
    """Drop all months but this one and so many before it. Returns 1 if what would be dropped does not verify."""
    async with open_connection(settings) as connection:
        ((month, moment),) = await connection.fetch(sql("audit_month"), months)
        async with connection.transaction(readonly=True):
            walk = Walk(await _stubs(connection))
            await walked(walk, _entries(connection, None, moment))
        if walk.report.faults:
            # Dropping the months would destroy the evidence.
            say("these months do not verify, and nothing was dropped: run `nexus-graph audit verify`")
            return CANNOT_GO_ON
        head = walk.report.head
        try:
            async with connection.transaction():
                await connection.fetch(sql("audit_lock_timeout"), str(LOCKS_WAIT_MS))
                dropped = await connection.fetchval(sql("audit_retain"), month, head.seq, head.hash)
        except Exception as error:
            if not is_busy(error):
                raise
            say("an export or a verify is under way, and nothing was dropped: try again after its end")
            return CANNOT_GO_ON
    _print_dropped(dropped, walk.report, as_json=as_json)
    return 0


def _print_dropped(dropped: list[str], report: Report, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"dropped": dropped, "entries": report.entries, "through": report.head.seq}) + "\n")
    elif dropped:
        sys.stdout.write(f"dropped {', '.join(dropped)}: {report.entries:,} entries, up to {report.head.seq:,}\n")
    else:
        sys.stdout.write("nothing to drop\n")
