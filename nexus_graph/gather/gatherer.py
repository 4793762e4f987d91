"""Natural batching: requests that arrive while a batch is in flight go out together in the next batch.

No request waits for company. A lone caller pays nothing; under load a batch grows to what one round trip can carry.
identify, its fast path, family reads and cache reads are all gathered by this one engine. A caller that goes away takes
nothing with it: its batch is never cancelled, and the other callers get their answers.

`Gatherer` is the plain path: wait in the queue, go out in a batch, return the answer to the caller. Its three parts can
be read and tested alone: `Admission`, `Pacing`, `Sharing`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from itertools import chain
from math import inf
from time import monotonic
from typing import Final, Generic, NamedTuple, TypeVar

from nexus_graph import telemetry
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


class Gatherer(Generic[Request, Answer]):
    """Gathers single requests into batches for `send`.

    `send` takes up to `bounds.batch_max` requests and returns an answer, or the exception to raise, for each in order.
    If `send` raises, every caller of that batch gets the exception. Callers who asked for one thing may be given one
    and the same object; `sharing` says whether callers that arrived during the batch may be given that object as well.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[list[Request]], Awaitable[Sequence[Answer | Exception]]],
        bounds: Bounds,
        sharing: "Sharing[Request, Answer] | None" = None,
    ) -> None:
        """`name` labels the metrics. Without `sharing` an answer goes to the callers of its own batch only."""
        self._send = send
        self._admission: Admission[Request, Answer] = Admission(bounds)
        self._pacing = Pacing(bounds)
        self._sharing: Sharing[Request, Answer] = sharing or Sharing()
        self._lanes: set[asyncio.Task[None]] = set()
        self._batch_size = telemetry.BATCH_SIZE.labels(name)
        self._queue_wait = telemetry.QUEUE_WAIT.labels(name)

    async def ask(self, request: Request, *, since: float | None = None) -> Answer:
        """The answer to one request. Raises Overloaded, Unavailable, or what `send` gave for this request.

        The request's time began at `since`, by the monotonic clock; None: now.
        """
        answer = self._admission.enter(request, since)
        if self._pacing.is_due(len(self._admission.waiting)):
            self._start_lane()
        return await answer

    def fail(self, error: Exception) -> None:
        """Give every caller of now this error. Batches in flight go on, and a new one goes out once they end."""
        self._admission.fail(error)

    async def drained(self) -> None:
        """Return once no request waits and no batch is in flight."""
        while self._lanes:
            await asyncio.wait(self._lanes)

    async def close(self) -> None:
        """Answer the requests that wait, then stop."""
        self._admission.close()
        await self.drained()
        self._admission.stop_timer()

    def _start_lane(self) -> None:
        if not self._pacing.open_lane():
            return
        # A context of its own: what a lane logs is not the work of the caller that happened to start the lane.
        task = asyncio.get_running_loop().create_task(self._drain(), context=Context())
        self._lanes.add(task)
        task.add_done_callback(self._lanes.discard)

    async def _drain(self) -> None:
        """Send batches until no request waits."""
        # Requests of one turn of the loop are all in the queue when this first runs: they share a batch.
        while waiting := len(self._admission.waiting):
            self._queue_wait.observe(monotonic() - self._admission.waiting[0].since)
            if batch := self._admission.take(self._pacing.size_max(waiting)):
                await self._answer(batch)
                if self._pacing.is_short(len(self._admission.waiting)):
                    await asyncio.sleep(0)
        # No await since the queue was seen empty: the next request finds this lane closed and starts another.
        self._pacing.close_lane()

    async def _answer(self, batch: list[Waiter[Request, Answer]]) -> None:
        self._batch_size.observe(len(batch))
        self._admission.sent(batch)
        began, begun = monotonic(), self._sharing.begin()
        with self._pacing.flight(len(batch), self._start_lane_if_any_wait):
            if self._pacing.is_part(len(self._admission.waiting)):
                self._start_lane()
            try:
                answers = await self._send([waiter.request for waiter in batch])
            except Exception as error:  # noqa: BLE001 - whatever the error is, it belongs to the callers of this batch
                answers = [error] * len(batch)
        self._admission.returned(batch, monotonic() - began)
        for waiter, answer in zip(batch, answers, strict=True):
            if waiter.answer.done():
                continue
            if isinstance(answer, Exception):
                waiter.answer.set_exception(answer)
            else:
                waiter.answer.set_result(answer)
        self._sharing.end(answers, begun, self._admission.waiting)
        self._pacing.keep_together(shared=self._sharing.is_usual)

    def _start_lane_if_any_wait(self) -> None:
        if self._admission.waiting:
            self._start_lane()


class Admission(Generic[Request, Answer]):
    """Which requests may wait for a batch, and for how long; with one timer for all their deadlines.

    - The queue is bounded by its length and by the estimated wait. Past either bound a request is refused at once.
    - Every caller is answered at its deadline, whatever hangs. A request that still waits is dropped before it is sent.
      The caller of a request in flight learns that the effect is unknown; its batch goes on, for its other callers.
    - After `close` no request is admitted.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._timeout_seconds = bounds.timeout_seconds
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
        wait_seconds = waiting // self._bounds.batch_max * self._seconds_per_batch / self._bounds.batches_max
        if waiting >= self._bounds.queue_max or wait_seconds > self._bounds.wait_max_seconds:
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

    def fail(self, error: Exception) -> None:
        """Fail all callers, those of batches in flight too."""
        for waiter in chain(self.waiting, *self._in_flight):
            if not waiter.answer.done():
                waiter.answer.set_exception(error)
        self.waiting.clear()

    def close(self) -> None:
        """Admit no further request."""
        self._is_closed = True

    def stop_timer(self) -> None:
        """End the watch over deadlines, once no caller waits."""
        self._set_timer(inf)

    def end_expired(self) -> None:
        """Fail the callers whose time is up, and set the timer for the next deadline."""
        expired = monotonic() - (1 - _EARLY) * self._timeout_seconds
        for waiter in self.waiting:
            if waiter.since <= expired and not waiter.answer.done():
                _drop(waiter)
        self.waiting = deque(waiter for waiter in self.waiting if not waiter.answer.done())
        for waiter in chain.from_iterable(self._in_flight):
            if waiter.since <= expired and not waiter.answer.done():
                waiter.answer.set_exception(Unavailable("there was no answer in time; the request may be sent again"))
        unanswered = (waiter.since for waiter in chain(self.waiting, *self._in_flight) if not waiter.answer.done())
        self._set_timer(min(unanswered, default=inf) + self._timeout_seconds)

    def _set_timer(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, moment
        if moment < inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, moment - monotonic()), self.end_expired)


def _drop(waiter: Waiter[Request, Answer]) -> None:
    waiter.answer.set_exception(Overloaded("waited too long for its turn"))


class Pacing:
    """When the next batch goes out, and how large it is. Only counts: it knows neither requests nor tasks.

    One batch after another is the rule, as fewer and larger batches cost every server less. A *lane* sends one batch
    after another; more lanes mean several batches in flight. There are three exceptions, and three reasons:
    - Halves. Where requests suffice for two batches, one half is in flight while the other half is being answered, so
      neither the server nor this process waits for the other.
    - Patience. A batch that takes longer than usual no longer holds up the requests that wait: the next lane starts.
    - No halves while callers share answers: requests for one thing cost hardly more than a single request, and two
      batches would ask for that thing twice.
    """

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


class Sharing(Generic[Request, Answer]):
    """While callers ask for the same thing, an answer is also given to callers that arrived during the batch.

    Such an answer may be older than the caller's question, by as long as the batch took. It must never be older than an
    answer that any caller was given before: a reader never goes back in time. So an answer is shared only if no other
    batch returned while its own was in flight.

    `serves(answer, request)` says whether an answer is right for a request that arrived after the answer was asked for.
    Without `serves` every answer is asked for after its caller arrived. Callers share an answer if they are given one
    and the same object.
    """

    def __init__(self, serves: Callable[[Answer, Request], bool] | None = None) -> None:
        self._serves = serves
        self._returned = 0
        """Batches that have returned."""
        self.is_usual = False
        """Whether the answers of the last batch had two callers each on average, or more."""

    def begin(self) -> int:
        """A batch is sent: a mark of this moment, for `end`."""
        return self._returned

    def end(self, answers: Sequence[Answer | Exception], begun: int, waiting: deque[Waiter[Request, Answer]]) -> None:
        """A batch that was sent at the mark `begun` returned these answers: share them with `waiting` where right."""
        is_newest = self.is_newest(begun)
        self._returned += 1
        given = [answer for answer in answers if answer is not None and not isinstance(answer, Exception)]
        distinct = list({id(answer): answer for answer in given}.values())
        callers = len(given)
        if is_newest and self._serves is not None and distinct and (self.is_usual or 2 * len(distinct) <= callers):
            callers += _share(distinct, self._serves, waiting)
        self.is_usual = 0 < 2 * len(distinct) <= callers

    def is_newest(self, begun: int) -> bool:
        """Whether no other batch returned since the mark: no caller was given a newer answer meanwhile."""
        return self._returned == begun


def _share(
    answers: Sequence[Answer], serves: Callable[[Answer, Request], bool], waiting: deque[Waiter[Request, Answer]]
) -> int:
    """Give the answers to the waiting callers that they serve. Returns to how many."""
    if not waiting:
        return 0
    # The newest caller keeps waiting: the next batch is sent for it, and is in flight while the others are answered.
    *others, newest = waiting
    waiting.clear()
    for waiter in others:
        answer = next((answer for answer in answers if serves(answer, waiter.request)), None)
        if answer is None:
            waiting.append(waiter)
        elif not waiter.answer.done():
            waiter.answer.set_result(answer)
    count = len(others) - len(waiting)
    waiting.append(newest)
    return count
