"""The feed: identity events as they are committed, in order and without a gap, for any number of followers.

All writers hold one lock until their commit can be seen, so events become visible in the order of their sequence:
whoever has read up to one has missed none before it (docs/adr/0001). One task reads what is new, once for all, and
keeps the last of it; each follower takes from there at its own pace, or from the record if it is further behind. So
nobody's slowness costs anybody else anything, and nothing is kept for a follower but its place.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import islice
from operator import attrgetter
from typing import cast

from nexus_graph import telemetry
from nexus_graph.cancelling import heed_cancellation
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.identity.families import Families
from nexus_graph.identity.listing import Listing
from nexus_graph.identity.model import Family, FamilyKey, IdentityEvent
from nexus_graph.store import database
from nexus_graph.store.database import Connection

_CHANNEL = "outbox"
_SEQUENCE = attrgetter("sequence")
_LOG = telemetry.log("feed")


class Feed:
    """Events for followers. It reads nothing while nobody follows. `listing` is the primary's, as its notices are."""

    def __init__(self, listing: Listing, families: Families, settings: Settings) -> None:
        self._listing = listing
        self._families = families
        self._settings = settings
        self._followers = 0
        self._starting = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._recent: deque[IdentityEvent] = deque(maxlen=settings.feed_recent_events)
        self._complete_from = 0
        """`_recent` holds every event past this one."""
        self._newest = 0
        self._arrived = asyncio.Event()

    async def events(self, after: int | None) -> AsyncGenerator[list[IdentityEvent], None]:
        """Every event past `after`, or from now on, in batches. Raises Unavailable if the record is away at first."""
        place = await self._listing.newest_event() if after is None else after
        async with self._followed():
            while True:
                arrived = self._arrived
                if batch := await self._next(place):
                    place = batch[-1].sequence
                    yield batch
                else:
                    await arrived.wait()

    async def family(self, contact_id: int) -> AsyncGenerator[Family | None, None]:
        """The family of the contact as the record has it: now, and after each change. None once it is gone."""
        place = await self._listing.newest_event()
        family = await self._family(contact_id)
        yield family
        home = contact_id if family is None else family.id
        async with aclosing(self.events(place)) as batches:
            async for batch in batches:
                if not any(home in (event.family_id, event.other_family_id) for event in batch):
                    continue
                changed = await self._family(contact_id)
                if changed is None or family is None or changed.version > family.version:
                    family = changed
                    home = home if family is None else family.id
                    yield family

    async def close(self) -> None:
        """Stop reading, whoever still follows."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _family(self, contact_id: int) -> Family | None:
        return await self._families.current(FamilyKey("contact", contact_id))

    async def _next(self, place: int) -> list[IdentityEvent]:
        page = self._settings.feed_page_events
        if place >= self._complete_from:
            if place >= self._newest:
                return []
            first = bisect_right(self._recent, place, key=_SEQUENCE)
            return list(islice(self._recent, first, first + page))
        while True:
            try:
                return await self._listing.events(None, after=place, limit=page)
            except Unavailable:
                await asyncio.sleep(self._settings.feed_retry_seconds)

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
                reading.cancel()
                await asyncio.wait({reading})

    async def _read(self) -> None:
        """Read on for ever; while the record is away, ask again now and then."""
        while True:
            try:
                async with self._noticed() as notice:
                    while True:
                        heed_cancellation()
                        notice.clear()
                        found = await self._listing.events(
                            None, after=self._newest, limit=self._settings.feed_page_events
                        )
                        self._take(found)
                        if len(found) < self._settings.feed_page_events:
                            with suppress(TimeoutError):
                                async with asyncio.timeout(self._settings.feed_poll_seconds):
                                    await notice.wait()
            except Exception as error:  # noqa: BLE001 - followers wait for what it reads
                heed_cancellation()
                _LOG.warning("feed_interrupted", error=telemetry.error_name(error))
                await asyncio.sleep(self._settings.feed_retry_seconds)

    def _take(self, found: list[IdentityEvent]) -> None:
        if not found:
            return
        dropped = len(self._recent) + len(found) - self._settings.feed_recent_events
        if dropped > 0:
            self._complete_from = [*islice(self._recent, dropped), *found][dropped - 1].sequence
        self._recent.extend(found)
        self._newest = found[-1].sequence
        self._arrived.set()
        self._arrived = asyncio.Event()

    @asynccontextmanager
    async def _noticed(self) -> AsyncIterator[asyncio.Event]:
        """Set whenever somebody has committed a change; a hint, as notices may be lost."""
        notice = asyncio.Event()

        def heard(*_: object) -> None:
            notice.set()

        pool = await database.connect_pool(self._settings, role="nexus_api", size=1, server="direct")
        try:
            async with pool.acquire() as held:
                connection = cast("Connection", held)
                await connection.add_listener(_CHANNEL, heard)
                try:
                    yield notice
                finally:
                    with suppress(*database.CONNECTION_LOST, TimeoutError):
                        await connection.remove_listener(_CHANNEL, heard)
        finally:
            pool.terminate()
