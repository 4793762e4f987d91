"""The feed: identity events as they are committed, in order and without a gap, for any number of followers.

Every writer holds one lock until its commit is visible, so events become visible in the order of their sequence: a
reader at event n has seen every event up to n (docs/adr/0001). One task reads new events for all followers and keeps
the newest; each follower takes from these at its own pace, or from the record if it is further behind.

The feed stores only a follower's position. A follower takes a few events at a time: at once if it is up to date, else
in its turn. Followers that catch up share a part of this process's time (`feed_catch_up_share`); requests have the
rest.
"""

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from operator import attrgetter
from time import perf_counter
from typing import Final

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.identity.families import Families
from nexus_graph.identity.listing import Listing
from nexus_graph.model import Family, FamilyKey, IdentityEvent
from nexus_graph.store.database import connect_pool
from nexus_graph.store.outbox import noticed
from nexus_graph.tasks import is_set_within, raise_if_cancelled

PAGE_EVENTS: Final = 500
"""Events of one read from the record: some milliseconds of work between two turns of the loop."""

RECENT_EVENTS_MAX: Final = 10_000
"""The newest events, kept in memory for all followers: some seconds of full load, and a few megabytes."""

_POLL_SECONDS: Final = 0.5
"""Seconds between looks for new events without a notice: a lost notice delays followers by no more."""

_RETRY_SECONDS: Final = 1.0
"""Seconds before the next try while the record is away."""


_PAST_EVENTS: Final = 128
"""Events of a page of the past."""
_PAGES_KEPT: Final = 128
"""About 8 MB of pages of the past, for followers at different positions."""
_SEQUENCE: Final = attrgetter("sequence")
_TURN_SECONDS: Final = 0.0004
"""The time that one follower may take before others get their turn."""
_TURN_MAX_EVENTS: Final = 64
_GUESS_SECONDS: Final = 0.00002
"""The first estimate of the time to send one event."""
_SMOOTHING: Final = 0.3
"""Weight of the newest turn in the estimate of the next turn's time."""
_LOG = telemetry.log("feed")


class Feed:
    """Events for followers. Without a follower it reads nothing. `listing` is the primary's, as the notices are."""

    def __init__(self, listing: Listing, families: Families, settings: Settings) -> None:
        self._listing = listing
        self._families = families
        self._settings = settings
        self._followers = 0
        self._starting = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._recent: list[IdentityEvent] = []
        self._complete_from = 0
        """`_recent` holds every event past this one."""
        self._newest = 0
        self._arrived = asyncio.Event()
        self._past = _Past(listing)
        self._pace = _Pace(settings.feed_catch_up_share)

    async def events(self, after: int | None) -> AsyncGenerator[Sequence[IdentityEvent], None]:
        """Every event past `after`, or from now on, in batches. Raises Unavailable if the record is away at the
        start.
        """
        place = await self._listing.newest_event() if after is None else after
        effort = _Effort()
        async with self._followed():
            while True:
                arrived = self._arrived
                most = min(max(int(_TURN_SECONDS / effort.seconds_each), 1), _TURN_MAX_EVENTS)
                if place < self._newest:
                    await self._pace.turn(most * effort.seconds_each)
                batch = await self._next(place, most)
                if not batch:
                    await arrived.wait()
                    batch = await self._next(place, most)
                if batch:
                    place = batch[-1].sequence
                    effort.begin()
                    yield batch
                    effort.end(len(batch))

    async def family(self, contact_id: int) -> AsyncGenerator[Family | None, None]:
        """The contact's family in the record, now and after each change. None, once, if the contact has none."""
        place = await self._listing.newest_event()
        family = await self._family(contact_id)
        yield family
        async with aclosing(self.events(place)) as batches:
            async for batch in batches:
                if not any(_concerns(event, contact_id, family) for event in batch):
                    continue
                changed = await self._family(contact_id)
                if changed is None and family is None:
                    continue
                if changed is None or family is None or changed.version > family.version:
                    family = changed
                    yield family

    async def close(self) -> None:
        """Stop reading. Followers end."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _family(self, contact_id: int) -> Family | None:
        return await self._families.current(FamilyKey("contact", contact_id))

    async def _next(self, place: int, most: int) -> Sequence[IdentityEvent]:
        if place >= self._complete_from:
            return _following(self._recent, place, most)
        while True:
            try:
                return await self._past.after(place, most)
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)

    @asynccontextmanager
    async def _followed(self) -> AsyncIterator[None]:
        self._followers += 1
        try:
            async with self._starting:
                if self._reading is None:
                    self._newest = self._complete_from = await self._listing.newest_event()
                    self._recent.clear()
                    self._reading = asyncio.create_task(self._read())
            yield
        finally:
            self._followers -= 1
            if self._followers == 0 and self._reading is not None:
                reading, self._reading = self._reading, None
                self._recent.clear()
                self._past = _Past(self._listing)
                reading.cancel()
                await asyncio.wait({reading})

    async def _read(self) -> None:
        """Read until cancelled; while the record is away, retry after a pause."""
        while True:
            try:
                async with self._noticed() as notice:
                    while True:
                        raise_if_cancelled()
                        notice.clear()
                        found = await self._listing.events(None, after=self._newest, limit=PAGE_EVENTS)
                        self._take(found)
                        if len(found) < PAGE_EVENTS:
                            await is_set_within(notice, _POLL_SECONDS)
            except Exception as error:  # noqa: BLE001 - followers wait for what it reads
                raise_if_cancelled()
                _LOG.warning("feed_interrupted", error=telemetry.error_name(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _take(self, found: list[IdentityEvent]) -> None:
        if not found:
            return
        dropped = len(self._recent) + len(found) - RECENT_EVENTS_MAX
        if dropped > 0:
            self._complete_from = [*self._recent[:dropped], *found][dropped - 1].sequence
        self._recent += found
        del self._recent[:-RECENT_EVENTS_MAX]
        self._newest = found[-1].sequence
        self._arrived.set()
        self._arrived = asyncio.Event()

    @asynccontextmanager
    async def _noticed(self) -> AsyncIterator[asyncio.Event]:
        notice = asyncio.Event()
        pool = await connect_pool(self._settings, role="nexus_api", size=1, server="direct")
        try:
            async with pool.acquire() as connection, noticed(connection, notice):
                yield notice
        finally:
            pool.terminate()


class _Past:
    """Events of the past, page by page: followers share the pages that were used last. A visible event never changes,
    and no event appears before it later.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._pages: OrderedDict[int, list[IdentityEvent]] = OrderedDict()
        """Full pages, by the sequence that they come after: a multiple of a page's length. As sequences only grow, a
        full page reaches past the next multiple.
        """
        self._reading = asyncio.Lock()

    async def after(self, place: int, most: int) -> Sequence[IdentityEvent]:
        """The next events past the sequence `place`; empty at the end. Raises Unavailable."""
        start = place - place % _PAST_EVENTS
        if start in self._pages:
            self._pages.move_to_end(start)
            return _following(self._pages[start], place, most)
        async with self._reading:  # one page at a time: followers that catch up take one connection at most
            page = self._pages.get(start)
            if page is None:
                page = await self._listing.events(None, after=start, limit=_PAST_EVENTS)
                if len(page) == _PAST_EVENTS:
                    self._pages[start] = page
                if len(self._pages) > _PAGES_KEPT:
                    self._pages.popitem(last=False)
            return _following(page, place, most)


def _following(events: list[IdentityEvent], place: int, most: int) -> list[IdentityEvent]:
    """The next events past the sequence `place`, `most` at most, of events in order."""
    first = bisect_right(events, place, key=_SEQUENCE)
    return events[first : first + most]


class _Pace:
    """Gives turns to work that may wait, one after another. A pause without turns follows each, so that all turns get a
    bounded share of this process's time.
    """

    def __init__(self, share: float) -> None:
        """`share`: the part of the time that turns may take."""
        self._share = share
        self._free_at = 0.0
        self._next = asyncio.Lock()

    async def turn(self, seconds: float) -> None:
        """Wait for a turn of about `seconds`. The event loop serves other tasks meanwhile."""
        async with self._next:
            # At the loop's next turn at the soonest, even if this turn is late.
            await asyncio.sleep(max(0.0, self._free_at - perf_counter()))
            self._free_at = perf_counter() + seconds / self._share


class _Effort:
    """The time that one item costs this process, learned from the last items."""

    def __init__(self) -> None:
        self.seconds_each = _GUESS_SECONDS
        self._began = 0.0
        self._broken = False
        self._mark: asyncio.Handle | None = None

    def begin(self) -> None:
        """The work on some items begins now."""
        self._broken = False
        self._mark = asyncio.get_running_loop().call_soon(self._break)
        self._began = perf_counter()

    def end(self, items: int) -> None:
        """The work has ended. If the task waited meanwhile, the time says nothing, as other tasks ran."""
        seconds = perf_counter() - self._began
        if self._mark is not None:
            self._mark.cancel()
        if not self._broken:
            self.seconds_each += _SMOOTHING * (seconds / items - self.seconds_each)

    def _break(self) -> None:
        self._broken = True


def _concerns(event: IdentityEvent, contact_id: int, family: Family | None) -> bool:
    """True if the event may have changed the contact's family, last seen as `family`."""
    if contact_id in (event.contact_id, event.family_id, event.other_family_id):
        return True
    return family is not None and family.id in (event.family_id, event.other_family_id)
