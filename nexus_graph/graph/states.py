"""The state of families in the record, in the shape that projection and verify take."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeAlias, TypedDict, cast

from nexus_graph.statements import sql
from nexus_graph.store.database import Connection, Pool
from nexus_graph.store.outbox import BATCH_CONTACTS

LANES: Final = 2
"""Pages of families that are worked through at once: the graph has one, the record the next."""

Reader: TypeAlias = "Connection | Pool"
Progress = Callable[[int], None]
"""Called with the number of contacts that were worked through since the last call."""


class FamilyState(TypedDict):
    """A family of the record at one moment. A family that is gone has `live` false and empty lists.

    The lists of contacts are parallel, the primary first; so are the lists of evidence, and the lists of the newest
    events, the newest first. `joined` is the time at which each contact was made or joined this family. Times are
    microseconds since 1970.
    """

    id: int
    live: bool
    version: int
    size: int
    ids: list[int]
    emails: list[str | None]
    phones: list[str | None]
    micros: list[int]
    joined: list[int]
    pairs: list[list[str]]
    tie_micros: list[int]
    tie_requests: list[str | None]
    event_seqs: list[int]
    event_kinds: list[str]
    event_micros: list[int]


async def read_states(source: Reader, ids: list[int]) -> list[FamilyState]:
    """The states of these families, all in one snapshot, in no particular order."""
    rows = await source.fetch(sql("family_states"), ids)
    return [cast("FamilyState", dict(row)) for row in rows]


async def read_page(source: Reader, *, after: int, families_max: int) -> list[int]:
    """The next family ids after `after`, tombstones included; a page of bounded contacts."""
    rows = await source.fetch(sql("family_page"), after, families_max, BATCH_CONTACTS)
    return [row["id"] for row in rows]


def bounded(states: Iterable[FamilyState]) -> Iterator[list[FamilyState]]:
    """The states in batches; a batch is full once it holds BATCH_CONTACTS contacts and evidence rows."""
    batch: list[FamilyState] = []
    weight = 0
    for state in states:
        batch.append(state)
        weight += 1 + state["size"] + len(state["pairs"])
        if weight >= BATCH_CONTACTS:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


async def work_through(
    source: Pool,
    work: Callable[[list[FamilyState]], Awaitable[None]],
    *,
    families_max: int,
    progress: Progress,
) -> int:
    """Pass the states of all families, tombstones included, to `work`, page by page, LANES pages at once. Returns how
    many contacts there were. Raises the first error, after every other page has ended.
    """
    turn = asyncio.Lock()
    after = contacts = 0

    async def lane() -> None:
        nonlocal after, contacts
        while True:
            async with turn:
                ids = await read_page(source, after=after, families_max=families_max)
                if not ids:
                    return
                after = ids[-1]
            states = await read_states(source, ids)
            await work(states)
            size = sum(state["size"] for state in states)
            contacts += size
            progress(size)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(lane())
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from group_error
    return contacts
