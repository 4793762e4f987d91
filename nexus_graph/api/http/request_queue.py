"""Requests begin in rounds, so that no turn of the loop is long enough to make operators wait.

A turn of the loop reads all requests that have arrived and begins them. With thousands of busy connections one turn
would be seconds of work, while new connections, `/livez` and timers wait. So a round begins no more requests than take
`_ROUND_SECONDS` by their recent cost, and the others wait in line for the next rounds. The line's wait is known in
advance: once it is too long, new requests are refused.
"""

from collections import deque
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Any, Final

_ROUND_SECONDS: Final = 0.1
"""A new connection's request waits about three turns: to be accepted, to be read, to be answered."""
_ROUND_MIN_REQUESTS: Final = 16
"""The least size of a round: a machine that paused makes every request look expensive."""
_FEW_SECONDS_EACH: Final = _ROUND_SECONDS / _ROUND_MIN_REQUESTS
"""The most that fewer requests than a round's least can seem to cost: a first request prepares what later
requests find ready, and one turn that stood still says nothing of the next."""
_ROUND_FIRST_REQUESTS: Final = 256
_LATE_SECONDS: Final = 0.15
"""If the loop calls `measure` later than this, it was busy all the time."""
_SMOOTHING: Final = 0.3
"""Weight of the newest measurement in both parts of the estimate: time and number of requests."""


class RequestQueue:
    """The line of one process. The protocol calls `begin` for a request, and `begun` as its work starts."""

    def __init__(self, *, wait_max_seconds: float) -> None:
        """Past an estimated wait of `wait_max_seconds` it is `overloaded`."""
        self.room = _ROUND_FIRST_REQUESTS
        """How many more may begin in this round."""
        self.overloaded = False
        self._wait_max_seconds = wait_max_seconds
        self.waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        """Requests that wait for the next rounds, in order."""
        self._size = _ROUND_FIRST_REQUESTS
        self._beginning = 0
        """Requests of this round that have not begun yet; counted only while others wait."""
        self._seconds_each = self._seconds = self._requests = 0.0
        self.since_measured = 0
        """Requests that have begun."""
        self._wall, self._cpu = perf_counter(), thread_time()

    def begin(self, start: Callable[..., None], *given: Any) -> None:
        """Call `start`, which makes a task of the request, now or in its round."""
        if self.room > 0:
            self.room -= 1
            start(*given)
            return
        if not self.waiting:
            self._beginning = self._size - self.room
        self.waiting.append((start, given))
        self._judge()

    def begun(self) -> None:
        """The task calls this as it starts. After the last request of a round the next round begins."""
        self.since_measured += 1
        if not self.waiting:
            self.room += 1
            return
        self._beginning -= 1
        if self._beginning > 0:
            return
        while self.waiting and self._beginning < self._size:
            self._beginning += 1
            start, given = self.waiting.popleft()
            start(*given)
        self.room = 0 if self.waiting else self._size - self._beginning
        self._judge()

    def measure(self) -> None:
        """Update the estimate of a request's cost. Call it every tenth of a second."""
        wall, cpu = perf_counter(), thread_time()
        if self.since_measured:
            # A busy loop spends all wall time on requests, including the time that other processes take of the
            # processor.
            is_busy = self.waiting or wall - self._wall > _LATE_SECONDS
            spent = wall - self._wall if is_busy else cpu - self._cpu
            if self.since_measured < _ROUND_MIN_REQUESTS:
                spent = min(spent, _FEW_SECONDS_EACH * self.since_measured)
            self._seconds += _SMOOTHING * (spent - self._seconds)
            self._requests += _SMOOTHING * (self.since_measured - self._requests)
            self._seconds_each = self._seconds / self._requests
            size = max(_ROUND_MIN_REQUESTS, round(_ROUND_SECONDS / max(self._seconds_each, 1e-6)))
            if not self.waiting:
                self.room += size - self._size
            self._size = size
        self.since_measured, self._wall, self._cpu = 0, wall, cpu
        self._judge()

    def _judge(self) -> None:
        self.overloaded = len(self.waiting) * self._seconds_each > self._wait_max_seconds
