"""Work that may wait, beside work that may not: together its turns get a share of a process's time, and no more."""

import asyncio
from time import perf_counter
from typing import Final

_SMOOTHING: Final = 0.3
"""Weight of the newest turn in the estimate of what the next will cost."""


class Pace:
    """Gives turns, one after another, to all who ask. Each is followed by a pause in which it gets none."""

    def __init__(self, share: float) -> None:
        """`share`: the part of the time that turns may take."""
        self._share = share
        self._free_at = 0.0
        self._next = asyncio.Lock()

    async def turn(self, seconds: float) -> None:
        """Wait for a turn that will take about so long. The event loop has served all others meanwhile."""
        async with self._next:
            # Not sooner than the loop's next turn, however late this one is.
            await asyncio.sleep(max(0.0, self._free_at - perf_counter()))
            self._free_at = perf_counter() + seconds / self._share


class Effort:
    """What one item of somebody's work costs this process, learned from what the last ones did."""

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
        """It has ended. If it waited for anything meanwhile, nothing is learned: others worked in that time."""
        seconds = perf_counter() - self._began
        if self._mark is not None:
            self._mark.cancel()
        if not self._broken:
            self.seconds_each += _SMOOTHING * (seconds / items - self.seconds_each)

    def _break(self) -> None:
        self._broken = True
