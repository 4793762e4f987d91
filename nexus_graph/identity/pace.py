"""Turns for work that may wait: all turns together get a bounded share of a process's time."""

import asyncio
from time import perf_counter
from typing import Final

_SMOOTHING: Final = 0.3
"""Weight of the newest turn in the estimate of the next turn's time."""


class Pace:
    """Gives turns one after another. A pause without turns follows each."""

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


class Effort:
    """The time that one item costs this process, learned from the last items."""

    def __init__(self, guess_seconds: float) -> None:
        self.seconds_each = guess_seconds
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
