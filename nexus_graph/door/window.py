"""How much of a rate is used up: two windows in a row, the earlier one weighed.

A sliding window counter. Time is cut in windows of the rate's length; the first begins with the first call of a caller
who was quiet for two windows. What was used is the current window's count, and of the window before as much as a window
that ends now still covers. So a caller who was quiet gets the whole amount in the first window and no more: the
hundred-and-first call in the first minute of `100/minute` is refused, whenever it comes.

GCRA would need one number instead of three. It fills up again while the first window lasts, so that a quiet caller gets
up to twice the amount in the first window, and the promise "100 in a minute" holds only in the long run. Both let in at
most `amount * (1 + d / seconds)` in any time of `d` seconds up to `seconds`.

A refused call counts one, until the window is full: a caller who keeps asking too fast gets nothing, and one who
waits as long as the answer says gets in. `schema/cache/spend.lua` does the same arithmetic in Redis; a test compares
the two.
"""

from typing import Final

from nexus_graph.rate import Rate

_SLACK: Final = 1e-6
"""What a weighed count may exceed the amount by, so that the exact end of a wait is late enough."""


class Window:
    """The use of one rate by one caller. Times are seconds of any clock that does not go back."""

    __slots__ = ("before", "began", "now")

    def __init__(self, began: float, before: int = 0, now: int = 0) -> None:
        """`before` and `now` are the counts of the window before and of the one that began at `began`."""
        self.began = began
        self.before = before
        self.now = now

    def used(self, at: float, rate: Rate) -> float:
        """The weighed count at this time."""
        self._turn(at, rate.seconds)
        return self.before * (1 - max(0.0, at - self.began) / rate.seconds) + self.now

    def spend(self, at: float, cost: int, rate: Rate) -> bool:
        """Count the cost if all of it fits, and say so; else count one refused call."""
        used = self.used(at, rate)
        if used + cost <= rate.amount + _SLACK:
            self.now += cost
            return True
        if used <= rate.amount:
            self.now += 1
        return False

    def wait_seconds(self, at: float, cost: int, rate: Rate) -> float:
        """How long until the cost fits, if nothing else is counted meanwhile; two windows if it never does."""
        if self.used(at, rate) + cost <= rate.amount + _SLACK:
            return 0.0
        passed = at - self.began
        room = rate.amount - cost
        if room < 0:
            return 2.0 * rate.seconds
        if self.now <= room:
            return rate.seconds * (1 - (room - self.now) / self.before) - passed
        return rate.seconds * (2 - room / self.now) - passed

    def ends_seconds(self, at: float, rate: Rate) -> float:
        """How long until the current window ends."""
        self._turn(at, rate.seconds)
        return rate.seconds - max(0.0, at - self.began)

    def _turn(self, at: float, seconds: int) -> None:
        """Begin the windows that have begun since the last count."""
        windows = int((at - self.began) // seconds)
        if windows < 1:
            return
        if windows == 1 and self.now:
            self.began += seconds
            self.before, self.now = self.now, 0
        else:
            self.began, self.before, self.now = at, 0, 0
