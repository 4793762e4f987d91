"""Events of the past, page by page: followers share the pages that were read last."""

import asyncio
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from nexus_graph.identity.listing import Listing
from nexus_graph.model import IdentityEvent

_PAGE_EVENTS: Final = 128
_PAGES_KEPT: Final = 128
"""About 8 MB of pages, for followers at different positions."""
_SEQUENCE: Final = attrgetter("sequence")


class Past:
    """The pages of `listing` that were used last. A visible event never changes, and no event appears before it
    later.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._pages: OrderedDict[int, list[IdentityEvent]] = OrderedDict()
        """By the sequence that they come after."""
        self._starts: list[int] = []
        self._reading = asyncio.Lock()

    async def after(self, place: int, most: int) -> Sequence[IdentityEvent]:
        """The next events past the sequence `place`; empty at the end. Raises Unavailable."""
        if found := self._find(place, most):
            return found
        async with self._reading:  # one page at a time: followers that catch up take one connection at most
            if found := self._find(place, most):
                return found
            page = await self._listing.events(None, after=place, limit=_PAGE_EVENTS)
            if len(page) == _PAGE_EVENTS:
                self._keep(place, page)
            return page[:most]

    def _find(self, place: int, most: int) -> Sequence[IdentityEvent]:
        at = bisect_right(self._starts, place) - 1
        if at < 0:
            return ()
        start = self._starts[at]
        page = self._pages[start]
        if place >= page[-1].sequence:
            return ()
        self._pages.move_to_end(start)
        return following(page, place, most)

    def _keep(self, place: int, page: list[IdentityEvent]) -> None:
        if place not in self._pages:
            insort(self._starts, place)
        self._pages[place] = page
        if len(self._pages) > _PAGES_KEPT:
            oldest, _ = self._pages.popitem(last=False)
            self._starts.remove(oldest)


def following(events: list[IdentityEvent], place: int, most: int) -> list[IdentityEvent]:
    """The index of the first event past the sequence `place`. The events are in order."""
    first = bisect_right(events, place, key=_SEQUENCE)
    return events[first : first + most]
