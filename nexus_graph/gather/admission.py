"""Admission: which requests may wait for a batch, and for how long.

- The queue is bounded by its length and by the estimated wait. Past either bound a request is refused at once.
- Every caller is answered at its deadline, whatever hangs. A request that still waits is dropped before it is sent. The
  caller of a request in flight learns that the effect is unknown; its batch goes on, for its other callers.
- After `close` no request is admitted.
"""

import asyncio
from collections import deque
from itertools import chain
from math import inf
from time import monotonic
from typing import Final, Generic, NamedTuple, TypeVar

from nexus_graph.errors import Overloaded, Unavailable
from nexus_graph.gather.bounds import Bounds

Request = TypeVar("Request")
Answer = TypeVar("Answer")

_SMOOTHING: Final = 0.2
"""Weight of the newest batch in the estimate of how long a batch takes."""

_EARLY: Final = 0.005
"""Part of the timeout by which a deadline may come early, so that one timer serves the deadlines of a moment."""


class Waiter(NamedTuple, Generic[Request, Answer]):
    """A request, the future that its caller awaits, and when its time began, by the monotonic clock."""

    request: Request
    answer: "asyncio.Future[Answer]"
    since: float


class Admission(Generic[Request, Answer]):
    """The requests that wait and the batches in flight, with one timer for all their deadlines."""

    def __init__(self, bounds: Bounds) -> None:
        self._queue_max = bounds.queue_max
        self._wait_max_seconds = bounds.wait_max_seconds
        self._timeout_seconds = bounds.timeout_seconds
        self._early_seconds = _EARLY * bounds.timeout_seconds
        self._batch_max = bounds.batch_max
        self._batches_max = bounds.batches_max
        self.waiting: deque[Waiter[Request, Answer]] = deque()
        self._in_flight: list[list[Waiter[Request, Answer]]] = []
        self._seconds_per_batch = 0.0
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        """When the timer looks for expired deadlines; infinity while there is no timer."""

    def enter(self, request: Request, since: float | None = None) -> "asyncio.Future[Answer]":
        """Queue a request, whose time began at `since`; None: now. Raises Overloaded, or Unavailable after `close`."""
        if self._is_closed:
            raise Unavailable("the service is stopping")
        waiting = len(self.waiting)
        # The wait is that of the whole batches ahead. Seconds per request would let one slow lone request count as
        # much as a full batch.
        wait_seconds = waiting // self._batch_max * self._seconds_per_batch / self._batches_max
        if waiting >= self._queue_max or wait_seconds > self._wait_max_seconds:
            raise Overloaded("too many requests are waiting")
        if since is None:
            since = monotonic()
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.append(Waiter(request, answer, since))
        if since + self._timeout_seconds < self._timer_at:
            self._set_timer(since + self._timeout_seconds)
        return answer

    def take(self, size_max: int) -> list[Waiter[Request, Answer]]:
        """Take the next batch from the queue, without callers that have left or whose time is up."""
        batch: list[Waiter[Request, Answer]] = []
        expired = monotonic() - self._timeout_seconds
        while self.waiting and len(batch) < size_max:
            waiter = self.waiting.popleft()
            if waiter.answer.done():
                continue
            if waiter.since < expired:
                _drop(waiter)
                continue
            batch.append(waiter)
        return batch

    def sent(self, batch: list[Waiter[Request, Answer]]) -> None:
        """Watch the deadlines of a batch in flight."""
        self._in_flight.append(batch)

    def returned(self, batch: list[Waiter[Request, Answer]], seconds: float) -> None:
        """A batch came back, after so many seconds."""
        self._in_flight = [other for other in self._in_flight if other is not batch]
        self._seconds_per_batch += _SMOOTHING * (seconds - self._seconds_per_batch)

    def close(self) -> None:
        """Admit no further request."""
        self._is_closed = True

    def stop_timer(self) -> None:
        """End the watch over deadlines, once no caller waits."""
        self._set_timer(inf)

    def end_expired(self) -> None:
        """Fail the callers whose time is up, and set the timer for the next deadline."""
        expired = monotonic() + self._early_seconds - self._timeout_seconds
        for waiter in self.waiting:
            if waiter.since <= expired and not waiter.answer.done():
                _drop(waiter)
        self.waiting = deque(waiter for waiter in self.waiting if not waiter.answer.done())
        for waiter in chain.from_iterable(self._in_flight):
            if waiter.since <= expired and not waiter.answer.done():
                waiter.answer.set_exception(Unavailable("there was no answer in time; the request may be sent again"))
        unanswered = (waiter.since for waiter in chain(self.waiting, *self._in_flight) if not waiter.answer.done())
        self._set_timer(min(unanswered, default=inf) + self._timeout_seconds)

    @property
    def has_timer(self) -> bool:
        """Whether a timer is set."""
        return self._timer is not None

    def _set_timer(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, moment
        if moment < inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, moment - monotonic()), self.end_expired)


def _drop(waiter: Waiter[Request, Answer]) -> None:
    waiter.answer.set_exception(Overloaded("waited too long for its turn"))
