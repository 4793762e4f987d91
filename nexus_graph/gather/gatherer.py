"""The plain path of a request: wait in the queue, go out in a batch, return the answer to the caller.

identify, its fast path, family reads and cache reads are all gathered by this one engine. A caller that goes away takes
nothing with it: its batch is never cancelled, and the other callers get their answers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from time import monotonic
from typing import Generic, TypeVar

from nexus_graph import telemetry
from nexus_graph.gather.admission import Admission, Waiter
from nexus_graph.gather.bounds import Bounds
from nexus_graph.gather.pacing import Pacing
from nexus_graph.gather.sharing import Sharing

Request = TypeVar("Request")
Answer = TypeVar("Answer")


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
        sharing: Sharing[Request, Answer] | None = None,
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

    @property
    def depth(self) -> int:
        """How many requests wait for a batch."""
        return len(self._admission.waiting)

    async def close(self) -> None:
        """Answer the requests that wait, then stop."""
        self._admission.close()
        while self._lanes:
            await asyncio.wait(self._lanes)
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
