"""Pacing: when the next batch goes out, and how large it is.

One batch after another is the rule, as fewer and larger batches cost every server less. A *lane* sends one batch after
another; more lanes mean several batches in flight. There are three exceptions, and three reasons:
- Halves. Where requests suffice for two batches, one half is in flight while the other half is being answered, so
  neither the server nor this process waits for the other.
- Patience. A batch that takes longer than usual no longer holds up the requests that wait: the next lane starts.
- No halves while callers share answers: requests for one thing cost hardly more than a single request, and two batches
  would ask for that thing twice.

This module only counts. It knows neither requests nor tasks.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nexus_graph.gather.bounds import Bounds


class Pacing:
    """Counts lanes and requests in flight, and decides from them."""

    def __init__(self, bounds: Bounds) -> None:
        self._batch_max = bounds.batch_max
        self._lanes_max = bounds.batches_max
        self._half_min = bounds.half_min if bounds.batches_max > 1 else bounds.batch_max
        self._patience_seconds = bounds.patience_seconds
        self._part_min = self._half_min
        """Requests that a batch next to another one has at least."""
        self._in_flight = 0
        self._lanes = 0
        self._slow_lanes = 0

    def is_due(self, waiting: int) -> bool:
        """Whether so many waiting requests need another lane now: every lane is slow, or they are a batch."""
        return self._lanes == self._slow_lanes or self.is_part(waiting)

    def is_part(self, waiting: int) -> bool:
        """Whether so many waiting requests may go out next to the batches in flight: a full batch, or a half."""
        if self._in_flight == 0:
            return False
        return waiting >= self._batch_max or (waiting >= self._part_min and waiting >= self._in_flight)

    def size_max(self, waiting: int) -> int:
        """Requests that the next batch takes at most: half of all, where that is a part."""
        half = (waiting + self._in_flight + 1) // 2
        return min(self._batch_max, max(self._part_min, half))

    def is_short(self, waiting: int) -> bool:
        """Whether a lane lets the loop turn once before the next batch: requests that have just arrived join the batch,
        which makes batches a tenth larger. A half goes out at once.
        """
        return waiting < self._half_min

    def open_lane(self) -> bool:
        """Count another lane; False if there may be none."""
        if self._lanes == self._lanes_max:
            return False
        self._lanes += 1
        return True

    def close_lane(self) -> None:
        """A lane found the queue empty and ended."""
        self._lanes -= 1

    def keep_together(self, *, shared: bool) -> None:
        """Note whether callers share answers: while they do, only full batches go out next to another."""
        self._part_min = self._batch_max if shared else self._half_min

    @contextmanager
    def flight(self, count: int, when_slow: Callable[[], None]) -> Iterator[None]:
        """Count a batch of so many requests as in flight. `when_slow` is called once it takes longer than usual."""
        is_slow = False

        def lose_patience() -> None:
            nonlocal is_slow
            is_slow = True
            self._slow_lanes += 1
            when_slow()

        self._in_flight += count
        timer = asyncio.get_running_loop().call_later(self._patience_seconds, lose_patience)
        try:
            yield
        finally:
            timer.cancel()
            self._slow_lanes -= is_slow
            self._in_flight -= count
