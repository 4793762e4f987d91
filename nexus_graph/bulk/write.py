"""One chunk into the record, in one transaction under the write lock: the record ends as if identify had been called
for each row, one after another, with nothing else between.

The chunk's identifiers are looked up at once, its rows decided in memory (`decide`) and written by COPY. The result
differs from identify's only in this: the changes of a chunk count up from one moment, a microsecond each; all carry the
request id of the import; and a family that changed several times has one outbox row, with its newest version.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Final, cast
from uuid import UUID

from nexus_graph.bulk.decide import FAMILY_LIMIT, Decider, Decisions, Known, Seniority, Standing
from nexus_graph.bulk.reader import Chunk
from nexus_graph.model import EventKind, Outcome
from nexus_graph.statements import sql
from nexus_graph.store.database import Connection, Pool

_MICROSECOND: Final = timedelta(microseconds=1)
_UNITED_AT_ONCE: Final = 256
"""Families that lose a union in one statement, which walks through all of them for each of their contacts."""
_CONTACTS: Final = ("id", "email", "phone_number", "linked_id", "link_precedence", "created_at", "updated_at")
_EVIDENCE: Final = ("email", "phone_number", "family_id", "request_id", "seen_at")
_EVENTS: Final = ("seq", "at", "kind", "family_id", "contact_id", "other_family_id", "cause", "request_id")
_OUTBOX: Final = ("seq", "family_id", "queued_at")


async def import_chunk(pool: Pool, chunk: Chunk, request_id: UUID, *, family_limit: int) -> "Counter[Outcome]":
    """Write the rows, all or none, and count their outcomes. Raises the errors of asyncpg.

    A repeated write changes nothing, so a chunk may be sent again after its connection broke during the commit.
    """
    async with pool.acquire() as held, held.transaction():
        connection = cast("Connection", held)  # a proxy with all methods of a connection
        await connection.execute(sql("write_lock"))
        began = await connection.fetchval(sql("import_begin"))
        known = await _look_up(connection, chunk, began, family_limit)
        decider = Decider(known, family_limit=family_limit)
        outcomes = Counter([decider.take(email, phone) for email, phone in chunk.pairs])
        decisions = decider.decisions
        await _drop_recorded_refusals(connection, decisions)
        if decisions.changes or decisions.evidence:
            await _write(connection, chunk, decisions, began, request_id)
    return outcomes


async def _look_up(connection: Connection, chunk: Chunk, began: datetime, family_limit: int) -> Known:
    known = Known([0] * len(chunk.identifiers), [False] * len(chunk.identifiers), set(), {})
    for kind, is_email in (("emails", True), ("phones", False)):
        places = [place for place, value in enumerate(chunk.identifiers) if ("@" in value) is is_email]
        rows = await connection.fetch(sql(f"import_known_{kind}"), [chunk.identifiers[place] for place in places])
        for place, family, live in rows:
            known.families[places[place - 1]] = family
            known.live[places[place - 1]] = live
    known.pairings = await _known_pairings(connection, chunk, known)
    touched = _touched(chunk, known)
    for family, created_at, incomplete, contacts in await connection.fetch(
        sql("import_families"), sorted(touched), family_limit
    ):
        seniority = Seniority((created_at - began) // _MICROSECOND, incomplete, family)
        known.standings[family] = Standing(seniority, contacts)
    return known


async def _known_pairings(connection: Connection, chunk: Chunk, known: Known) -> set[tuple[int, int]]:
    """The pairings of the rows that the record has: only two known identifiers can have one."""
    families, values = known.families, chunk.identifiers
    pairings = [
        (email, phone)
        for email, phone in dict.fromkeys(chunk.pairs)
        if email is not None and phone is not None and families[email] and families[phone]
    ]
    places = await connection.fetchval(
        sql("import_known_pairings"), [values[email] for email, _ in pairings], [values[phone] for _, phone in pairings]
    )
    return {pairings[place - 1] for place in places}


def _touched(chunk: Chunk, known: Known) -> set[int]:
    """The families named by a row with something new: these may grow, unite or be full."""
    families, live = known.families, known.live
    touched: set[int] = set()
    for email, phone in chunk.pairs:
        by_email = 0 if email is None else families[email]
        by_phone = 0 if phone is None else families[phone]
        if by_email or by_phone:
            all_live = (email is None or live[email]) and (phone is None or live[phone])
            if not all_live or (by_email and by_phone and by_email != by_phone):
                touched |= {by_email, by_phone}
    return touched - {0}


async def _drop_recorded_refusals(connection: Connection, decisions: Decisions) -> None:
    """Drop the refusals that the record has: a refused union has one event, however often it is requested."""
    # Only two families from before the chunk can have such an event.
    candidates = [
        change
        for change in decisions.changes
        if change.kind is EventKind.UNION_REFUSED and change.family > 0 and (change.other_family or 0) > 0
    ]
    if candidates:
        ones, others = [change.family for change in candidates], [change.other_family for change in candidates]
        recorded = {candidates[place - 1] for place in await connection.fetchval(sql("import_refused"), ones, others)}
        decisions.changes = [change for change in decisions.changes if change not in recorded]


async def _write(connection: Connection, chunk: Chunk, decisions: Decisions, began: datetime, request_id: UUID) -> None:
    row = await connection.fetchrow(sql("import_numbers"), len(decisions.contacts), len(decisions.changes))
    assert row is not None
    records = _Records(chunk, decisions, began, request_id, ids=row[0], sequences=row[1])
    for table, columns, rows in (
        ("contacts", _CONTACTS, records.contacts()),
        ("evidence", _EVIDENCE, records.evidence()),
        ("identity_events", _EVENTS, records.events()),
        ("outbox", _OUTBOX, records.outbox()),
    ):
        await connection.copy_records_to_table(table, records=rows, columns=columns)
    losses = list(records.losses())
    for start in range(0, len(losses), _UNITED_AT_ONCE):
        await connection.execute(sql("import_unite"), *zip(*losses[start : start + _UNITED_AT_ONCE], strict=True))
    await connection.execute(sql("outbox_notice"))


class _Records:
    """The rows of the tables: numbers become ids, and moments become times."""

    def __init__(
        self,
        chunk: Chunk,
        decisions: Decisions,
        began: datetime,
        request_id: UUID,
        *,
        ids: list[int],
        sequences: list[int],
    ) -> None:
        self._values = chunk.identifiers
        self._decisions = decisions
        # Several rows share a time, which costs as much as a row to compute.
        self._time: Callable[[int], datetime] = cache(lambda moment: began + moment * _MICROSECOND)
        self._request_id = request_id
        self._ids = ids
        self._changes = list(zip(sequences, decisions.changes, strict=True))
        self._last_homes = decisions.last_homes()

    def contacts(self) -> Iterable[tuple[object, ...]]:
        for place, (email, phone, home, moment) in enumerate(self._decisions.contacts):
            last_home, moved = self._last_homes.get(home, (home, moment))
            leads = last_home == -1 - place
            yield (
                self._ids[place],
                None if email is None else self._values[email],
                None if phone is None else self._values[phone],
                None if leads else self._id(last_home),
                "primary" if leads else "secondary",
                self._time(moment),
                self._time(max(moment, moved)),
            )

    def evidence(self) -> Iterable[tuple[object, ...]]:
        for email, phone, home, moment in self._decisions.evidence:
            last_home, _ = self._last_homes.get(home, (home, moment))
            yield (
                self._values[email],
                self._values[phone],
                self._id(last_home),
                self._request_id,
                self._time(moment),
            )

    def events(self) -> Iterable[tuple[object, ...]]:
        for sequence, (kind, family, contact, other_family, moment) in self._changes:
            if kind is not None:
                yield (
                    sequence,
                    self._time(moment),
                    kind.value,
                    self._id(family),
                    None if contact is None else self._id(contact),
                    None if other_family is None else self._id(other_family),
                    FAMILY_LIMIT if kind is EventKind.UNION_REFUSED else None,
                    self._request_id,
                )

    def outbox(self) -> Iterable[tuple[object, ...]]:
        newest = {change.family: (sequence, change.moment) for sequence, change in self._changes}
        for family, (sequence, moment) in newest.items():
            yield sequence, self._id(family), self._time(moment)

    def losses(self) -> Iterable[tuple[object, ...]]:
        """The parameters of import_unite, a row for each family that lost."""
        versions = {change.family: sequence for sequence, change in self._changes if change.kind is None}
        for loser, (survivor, moment) in self._last_homes.items():
            yield self._id(loser), self._id(survivor), self._time(moment), versions[loser]

    def _id(self, number: int) -> int:
        return number if number > 0 else self._ids[-1 - number]
