"""Sharing: while callers ask for the same thing, an answer is also given to callers that arrived during the batch.

Such an answer may be older than the caller's question, by as long as the batch took. It must never be older than an
answer that any caller was given before: a reader never goes back in time. So an answer is shared only if no other batch
returned while its own was in flight.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from nexus_graph.gather.admission import Waiter

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Sharing(Generic[Request, Answer]):
    """Notes whether callers share answers, and gives shared answers to those who wait.

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
    answers: Sequence[Answer],
    serves: Callable[[Answer, Request], bool],
    waiting: deque[Waiter[Request, Answer]],
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
