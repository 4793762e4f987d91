"""Natural batching: what arrives while the last batch is in flight goes out together in the next.

Nobody waits for company. A lone caller pays nothing; under load the batch grows to what one round trip can carry.
identify, its fast path and the graph's family reads are all gathered by this one engine.

Batches go one after another, as fewer and larger ones cost every server less. When there are callers enough for two,
they are halved: one half is in flight while the other is being answered, so that neither side waits for the other. But
callers who are given the same answer stay together, as they cost hardly more than one; and where answers may be shared
(`serves`), whoever came meanwhile and can be told the same is told with them. A batch goes out beside the last as well
when that has been in flight for longer than is usual.

Its promises:
- a caller that goes away takes nothing with it: its batch is never cancelled, and the other callers get their answers;
- the queue is bounded, by length and by estimated wait: past that `Overloaded` is raised at once;
- every caller is answered at its deadline, whatever hangs: before its request is sent it is dropped, and after that it
  is told that nothing is known of it. The batch goes on, as its other callers may have time yet.
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

Request = TypeVar("Request")
Answer = TypeVar("Answer")

_SMOOTHING = 0.2
"""Weight of the newest batch in the estimate of how long a batch takes."""

_DEADLINES_TOGETHER: Final = 0.005
"""The part of a caller's time by which its end may come early, so that the ends of a moment are looked at together."""


class _Waiter(NamedTuple, Generic[Request, Answer]):
    request: Request
    answer: "asyncio.Future[Answer]"
    since: float


class Gatherer(Generic[Request, Answer]):
    """Gathers single requests into batches for `send`.

    `send` takes up to `batch_max` requests and returns an answer, or the exception to raise, for each in order. If it
    raises, every caller of that batch gets the exception. At most `batches_max` calls of it run at once. Callers are
    halved where a half is `half_min` or more. A call that takes longer than `patience_seconds` keeps nobody else
    waiting, as long as there may be another. Callers who asked for one thing may be given one and the same object.

    `serves` says whether an answer is one to this request too, which came after the answer was asked for. An answer is
    not told so if another batch ended meanwhile: who was told that one's answers must not be told older ones next.
    Without `serves` every answer was asked for after its caller had come.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[list[Request]], Awaitable[Sequence[Answer | Exception]]],
        *,
        batch_max: int,
        batches_max: int,
        half_min: int,
        queue_max: int,
        wait_max_seconds: float,
        timeout_seconds: float,
        patience_seconds: float,
        serves: Callable[[Answer, Request], bool] | None = None,
    ) -> None:
        self._send = send
        self._serves = serves
        self._batch_max = batch_max
        self._batches_max = batches_max
        self._half_min = half_min if batches_max > 1 else batch_max
        self._is_shared = False
        self._ended = 0
        self._queue_max = queue_max
        self._wait_max_seconds = wait_max_seconds
        self._timeout_seconds = timeout_seconds
        self._together_seconds = _DEADLINES_TOGETHER * timeout_seconds
        self._waiting: deque[_Waiter[Request, Answer]] = deque()
        self._sent: list[list[_Waiter[Request, Answer]]] = []
        """The batches in flight."""
        self._look: asyncio.TimerHandle | None = None
        self._look_at = inf
        """When deadlines are looked at next: one timer for all callers, and none while nobody waits."""
        self._patience_seconds = patience_seconds
        self._in_flight = 0
        self._lanes = 0
        self._slow_lanes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._seconds_per_batch = 0.0
        self._closed = False
        self._batch_size = telemetry.BATCH_SIZE.labels(name)
        self._queue_wait = telemetry.QUEUE_WAIT.labels(name)

    async def ask(self, request: Request, *, since: float | None = None) -> Answer:
        """The answer to one request. Raises Overloaded, Unavailable, or what `send` gave for this request.

        Its time began at `since`, by the monotonic clock; None: now.
        """
        if self._closed:
            raise Unavailable("the service is stopping")
        if len(self._waiting) >= self._queue_max or self._estimated_wait_seconds() > self._wait_max_seconds:
            raise Overloaded("too many requests are waiting")
        began = monotonic() if since is None else since
        waiter: _Waiter[Request, Answer] = _Waiter(request, asyncio.get_running_loop().create_future(), began)
        self._waiting.append(waiter)
        if began + self._timeout_seconds < self._look_at:
            self._look_by(began + self._timeout_seconds)
        if self._lanes == self._slow_lanes or self._are_enough_waiting():
            self._start_lane()
        return await waiter.answer

    @property
    def depth(self) -> int:
        """How many requests wait for a batch."""
        return len(self._waiting)

    async def close(self) -> None:
        """Answer what waits, then stop."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._look_by(inf)

    def _look_by(self, moment: float) -> None:
        """Look at the deadlines at this moment and no other; infinity: not at all."""
        if self._look is not None:
            self._look.cancel()
        self._look, self._look_at = None, moment
        if moment < inf:
            self._look = asyncio.get_running_loop().call_later(max(0.0, moment - monotonic()), self._end_the_late)

    def _end_the_late(self) -> None:
        """Answer those whose time is up."""
        late = monotonic() + self._together_seconds - self._timeout_seconds
        for waiter in self._waiting:
            if waiter.since <= late and not waiter.answer.done():
                waiter.answer.set_exception(Overloaded("waited too long for its turn"))
        self._waiting = deque(waiter for waiter in self._waiting if not waiter.answer.done())
        for waiter in chain.from_iterable(self._sent):
            if waiter.since <= late and not waiter.answer.done():
                waiter.answer.set_exception(Unavailable("there was no answer in time; the request may be sent again"))
        unanswered = [waiter.since for waiter in chain(self._waiting, *self._sent) if not waiter.answer.done()]
        self._look_by(min(unanswered, default=inf) + self._timeout_seconds)

    def _estimated_wait_seconds(self) -> float:
        # Whole batches before one's own. Not seconds by request: a lone slow request would speak for full batches.
        return len(self._waiting) // self._batch_max * self._seconds_per_batch / self._batches_max

    def _are_enough_waiting(self) -> bool:
        """True if they are a batch to go out beside what is in flight."""
        enough = min(self._batch_max, max(self._part_min(), self._in_flight))
        return self._in_flight > 0 and len(self._waiting) >= enough

    def _size_max(self) -> int:
        """How many the next batch may be."""
        half = (len(self._waiting) + self._in_flight + 1) // 2
        return min(self._batch_max, max(self._part_min(), half))

    def _part_min(self) -> int:
        return self._batch_max if self._is_shared else self._half_min

    def _start_lane(self) -> None:
        if self._lanes == self._batches_max:
            return
        self._lanes += 1
        # A context of its own: what a lane logs is not the doing of the caller who happened to start it.
        task = asyncio.get_running_loop().create_task(self._drain(), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        # Callers of the same turn of the loop are already in the queue when this first runs: they share a batch.
        while self._waiting:
            if batch := self._take():
                await self._answer(batch)
                if len(self._waiting) < self._half_min:
                    # Whoever has come meanwhile is read first: batches are a tenth larger. A half goes out at once.
                    await asyncio.sleep(0)
        # No await since the queue was seen empty: who comes next finds the lane gone and starts another.
        self._lanes -= 1

    def _take(self) -> list[_Waiter[Request, Answer]]:
        now = monotonic()
        if self._waiting:
            self._queue_wait.observe(now - self._waiting[0].since)
        batch: list[_Waiter[Request, Answer]] = []
        size_max = self._size_max()
        while self._waiting and len(batch) < size_max:
            waiter = self._waiting.popleft()
            if waiter.answer.done():
                continue
            if now - waiter.since > self._timeout_seconds:
                waiter.answer.set_exception(Overloaded("waited too long for its turn"))
                continue
            batch.append(waiter)
        return batch

    async def _answer(self, batch: list[_Waiter[Request, Answer]]) -> None:
        self._batch_size.observe(len(batch))
        self._in_flight += len(batch)
        self._sent.append(batch)
        if self._are_enough_waiting():
            self._start_lane()
        started, ended = monotonic(), self._ended
        try:
            with self._patience():
                answers = await self._send([waiter.request for waiter in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the callers of this batch
            answers = [error] * len(batch)
        may_tell = self._ended == ended
        self._ended += 1
        self._in_flight -= len(batch)
        self._sent = [other for other in self._sent if other is not batch]
        self._seconds_per_batch += _SMOOTHING * (monotonic() - started - self._seconds_per_batch)
        for waiter, answer in zip(batch, answers, strict=True):
            if waiter.answer.done():
                continue
            if isinstance(answer, Exception):
                waiter.answer.set_exception(answer)
            else:
                waiter.answer.set_result(answer)
        self._share(answers, may_tell=may_tell)

    def _share(self, answers: Sequence[Answer | Exception], *, may_tell: bool) -> None:
        """Note whether callers are two to an answer, or more; while they are, it is told to those who wait as well."""
        given = [answer for answer in answers if answer is not None and not isinstance(answer, Exception)]
        told = list({id(answer): answer for answer in given}.values())
        sharing = len(given)
        if may_tell and self._serves is not None and told and (self._is_shared or 2 * len(told) <= sharing):
            sharing += self._tell(told, self._serves)
        self._is_shared = 0 < 2 * len(told) <= sharing

    def _tell(self, told: Sequence[Answer], serves: Callable[[Answer, Request], bool]) -> int:
        """Give these answers to those who wait and can be told so. Returns to how many."""
        # But not the newest: the next batch is for it, and in flight while these are being answered.
        if not self._waiting:
            return 0
        *others, newest = self._waiting
        self._waiting.clear()
        for waiter in others:
            answer = next((answer for answer in told if serves(answer, waiter.request)), None)
            if answer is None:
                self._waiting.append(waiter)
            elif not waiter.answer.done():
                waiter.answer.set_result(answer)
        count = len(others) - len(self._waiting)
        self._waiting.append(newest)
        return count

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Once the batch in flight has taken too long, those who wait get a lane beside it."""
        slow = False

        def lost() -> None:
            nonlocal slow
            slow = True
            self._slow_lanes += 1
            if self._waiting:
                self._start_lane()

        timer = asyncio.get_running_loop().call_later(self._patience_seconds, lost)
        try:
            yield
        finally:
            timer.cancel()
            self._slow_lanes -= slow
