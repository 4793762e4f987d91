"""Lists of the record, page by page: each page begins after a position, so every page costs the same.

A replica's lists may be older, never torn: it shows a prefix of the commits. So a page of events has no gap, even if
another server gave the page before.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg

from nexus_graph import telemetry
from nexus_graph.errors import Unavailable
from nexus_graph.model import Contact, ContactFilter, ContactPlace, IdentityEvent, ListedContact, Precedence
from nexus_graph.statements import sql
from nexus_graph.store.record import Record
from nexus_graph.store.replica import Replica

COUNTED_MAX: Final = 10_000
"""A list is counted no further: past it the exact number is of no use, and counting costs."""

_EVER: Final = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


class Listing:
    """Lists of the record: from the replica if there is one, else from the primary.

    They raise Unavailable when the record does not answer.
    """

    def __init__(self, record: Record, *, replica: Replica | None = None) -> None:
        self._record = record
        self._replica = replica

    async def contacts(self, wanted: ContactFilter, *, after: ContactPlace | None, limit: int) -> list[ListedContact]:
        """The next live contacts, ordered by email if the filter has one, else by phone if it has one, else by time."""
        filtered, first = _parameters(wanted)
        rows = await self._fetch(f"contacts_by_{wanted.order}", *filtered, *(after or first), limit)
        return [ListedContact(Contact(*columns), Precedence(how), family_id) for *columns, how, family_id in rows]

    async def count_contacts(self, wanted: ContactFilter) -> int | None:
        """How many there are in all; None past COUNTED_MAX."""
        filtered, _ = _parameters(wanted)
        return await self._count(f"count_by_{wanted.order}", *filtered)

    async def events(
        self, family_id: int | None, *, after: int, limit: int, at_least: int | None = None
    ) -> list[IdentityEvent]:
        """The next events past the sequence `after`, of one family or of all. None up to `at_least` is missing."""
        statement, of = ("events_after", ()) if family_id is None else ("events_of_family", (family_id,))
        rows = await self._fetch(statement, *of, after, limit)
        is_last = len(rows) < limit
        if at_least is not None and is_last and self._replica is not None and (not rows or rows[-1]["seq"] < at_least):
            rows = await self._fetch_primary(statement, *of, after, limit, fallback="behind")
        return [IdentityEvent.of_row(row) for row in rows]

    async def events_at(self, sequences: Sequence[int]) -> dict[int, IdentityEvent]:
        """The events with these sequences; unknown sequences are left out."""
        rows = await self._fetch("events_at", sequences)
        if len(rows) < len(set(sequences)) and self._replica is not None:
            # Only the primary may say that an event does not exist.
            rows = await self._fetch_primary("events_at", sequences, fallback="behind")
        return {event.sequence: event for event in map(IdentityEvent.of_row, rows)}

    async def newest_event(self) -> int:
        """The sequence of the newest event; 0 if there is none."""
        ((newest,),) = await self._fetch("newest_event")
        return int(newest)

    async def count_events(self, family_id: int | None) -> int | None:
        """How many there are in all; None past COUNTED_MAX."""
        if family_id is None:
            return await self._count("count_events")
        return await self._count("count_events_of_family", family_id)

    async def _count(self, statement: str, *parameters: object) -> int | None:
        ((found,),) = await self._fetch(statement, *parameters, COUNTED_MAX + 1)
        return None if found > COUNTED_MAX else int(found)

    async def _fetch(self, statement: str, *parameters: object) -> list[asyncpg.Record]:
        if self._replica is None:
            return await self._fetch_primary(statement, *parameters, fallback="none")
        try:
            rows = await self._replica.fetch(sql(statement), *parameters)
        except Unavailable:
            return await self._fetch_primary(statement, *parameters, fallback="away")
        telemetry.RECORD_READS.labels("replica", "none").inc()
        return rows

    async def _fetch_primary(self, statement: str, *parameters: object, fallback: str) -> list[asyncpg.Record]:
        rows = await self._record.fetch(sql(statement), *parameters)
        telemetry.RECORD_READS.labels("primary", fallback).inc()
        return rows


def _parameters(wanted: ContactFilter) -> tuple[tuple[object, ...], ContactPlace]:
    """The filter's parameters, and the place before the first contact, in the list's order."""
    if wanted.order == "time":
        since = wanted.created_from or _EVER[0]
        return (since, wanted.created_before or _EVER[1]), ContactPlace(since, 0)
    prefix = wanted.email_prefix if wanted.order == "email" else wanted.phone_prefix
    return (prefix, wanted.created_from, wanted.created_before), ContactPlace("", 0)
