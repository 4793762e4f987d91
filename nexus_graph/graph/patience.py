"""How long a reader waits for the graph before the record answers instead: a little longer than walks usually take."""

from typing import Final

_WEIGHT: Final = 1 / 8
_DEVIATION_WEIGHT: Final = 1 / 4
_DEVIATIONS: Final = 4
"""The usual time and four deviations, smoothed with these weights: as TCP decides that a segment is lost (RFC 6298)."""

_SLOW_FACTOR: Final = 2
"""A graph that is usually slower than the least patience is given up to so many times as much."""


class Patience:
    """Learns from the walks that were answered in time."""

    def __init__(self, least_seconds: float, *, most_seconds: float) -> None:
        self._least = min(least_seconds, most_seconds)
        self.most_seconds = min(_SLOW_FACTOR * least_seconds, most_seconds)
        """No reader waits longer, and a graph that needs longer is not used."""
        self._usual: float | None = None
        self._deviation = 0.0

    @property
    def seconds(self) -> float:
        """What a reader waits now."""
        if self._usual is None:
            return self.most_seconds
        return min(max(self._usual + _DEVIATIONS * self._deviation, self._least), self.most_seconds)

    def learn(self, seconds: float) -> None:
        """Take a walk that took so long into account."""
        if self._usual is None:
            self._usual, self._deviation = seconds, seconds / 2
            return
        self._deviation += _DEVIATION_WEIGHT * (abs(seconds - self._usual) - self._deviation)
        self._usual += _WEIGHT * (seconds - self._usual)

    def forget(self) -> None:
        """Forget the past: a graph that returns may be slower or quicker than before."""
        self._usual = None
