"""The batching engine, without a server."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import pytest

from nexus_graph.errors import Overloaded, Unavailable
from nexus_graph.gather.bounds import Bounds
from nexus_graph.gather.gatherer import Admission, Gatherer, Pacing, Sharing, Waiter


class Gate:
    """A `send` that answers its requests doubled, once it is opened, and remembers what it was sent."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.called = asyncio.Event()

    async def send(self, requests: list[int]) -> Sequence[int | Exception]:
        self.batches.append(requests)
        self.called.set()
        await self.open.wait()
        return [ValueError("thirteen") if request == 13 else request * 2 for request in requests]


USUAL = Bounds(
    batch_max=4,
    batches_max=1,
    half_min=4,
    queue_max=100,
    wait_max_seconds=60,
    timeout_seconds=60,
    patience_seconds=60,
)


def _gatherer(gate: Gate, sharing: Sharing[int, int] | None = None, **bounds: Any) -> Gatherer[int, int]:
    return Gatherer("unit", gate.send, USUAL._replace(**bounds), sharing)


def _has_timer(admission: Admission[int, int]) -> bool:
    return admission._timer is not None


async def _asked(gatherer: Gatherer[int, int], requests: Sequence[int]) -> list["asyncio.Task[int]"]:
    """Callers that wait in the queue, or in flight."""
    tasks = [asyncio.create_task(gatherer.ask(request)) for request in requests]
    await asyncio.sleep(0)
    return tasks


async def _until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until it holds, a bounded number of times."""
    for _ in range(100):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never held")


async def test_what_arrives_in_flight_shares_the_next_batch() -> None:
    gate = Gate()
    gatherer = _gatherer(gate)
    first = await _asked(gatherer, [1])
    await gate.called.wait()
    rest = await _asked(gatherer, [2, 3, 4, 5, 6])
    assert len(gatherer._admission.waiting) == 5
    gate.open.set()
    assert await asyncio.gather(*first, *rest) == [2, 4, 6, 8, 10, 12]
    assert gate.batches == [[1], [2, 3, 4, 5], [6]]


async def test_one_lane_carries_any_number_of_callers_one_after_another() -> None:
    """A caller that asks at the very moment a lane ends must not be left waiting for it."""
    gate = Gate()
    gate.open.set()
    gatherer = _gatherer(gate)
    async with asyncio.timeout(5):
        assert [await gatherer.ask(request) for request in range(100, 300)] == [*range(200, 600, 2)]
        # Asked from the callback of an answer: the lane has just seen an empty queue.
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        asyncio.create_task(gatherer.ask(1)).add_done_callback(
            lambda _: asyncio.create_task(gatherer.ask(2)).add_done_callback(
                lambda done: answered.set_result(done.result())
            )
        )
        assert await answered == 4


async def test_an_error_reaches_its_own_caller_only() -> None:
    gate = Gate()
    gate.open.set()
    answers = await asyncio.gather(*await _asked(_gatherer(gate), [1, 13, 3]), return_exceptions=True)
    assert [answers[0], answers[2]] == [2, 6]
    assert isinstance(answers[1], ValueError)
    assert gate.batches == [[1, 13, 3]]


async def test_a_cancelled_caller_is_not_sent_and_cancels_nothing() -> None:
    gate = Gate()
    gatherer = _gatherer(gate)
    in_flight = await _asked(gatherer, [1])
    await gate.called.wait()
    waiting = await _asked(gatherer, [2, 3, 4])
    in_flight[0].cancel()
    waiting[1].cancel()
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.gather(*waiting[::2]) == [4, 8]
    assert gate.batches == [[1], [2, 4]]


async def test_who_waited_past_the_deadline_is_dropped_before_sending() -> None:
    gate = Gate()
    gatherer = _gatherer(gate, timeout_seconds=1e-9)
    asked = await _asked(gatherer, [1])
    with pytest.raises(Overloaded):
        await asked[0]
    assert gate.batches == []


async def test_every_caller_is_answered_at_its_deadline_while_a_batch_hangs() -> None:
    """Those in flight and those that wait; nobody is cancelled, and who has time left gets the batch's answer."""
    gate = Gate()
    gatherer = _gatherer(gate, timeout_seconds=30, batch_max=2)
    long_ago = monotonic() - 29.9
    late = asyncio.create_task(gatherer.ask(1, since=long_ago))
    in_time = asyncio.create_task(gatherer.ask(2))
    await gate.called.wait()
    late_in_queue = asyncio.create_task(gatherer.ask(3, since=long_ago))
    in_time_in_queue = asyncio.create_task(gatherer.ask(4))
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable) as in_flight:
            await late
        assert not isinstance(in_flight.value, Overloaded)
        with pytest.raises(Overloaded):
            await late_in_queue
        assert len(gatherer._admission.waiting) == 1
        assert not in_time.done()
        gate.open.set()
        assert [await in_time, await in_time_in_queue] == [4, 8]
    assert gate.batches == [[1, 2], [4]]
    await gatherer.close()


async def test_an_earlier_deadline_is_kept_although_a_later_one_was_there_first() -> None:
    gate = Gate()
    gatherer = _gatherer(gate, timeout_seconds=30)
    first = asyncio.create_task(gatherer.ask(1))
    await gate.called.wait()
    second = asyncio.create_task(gatherer.ask(2, since=monotonic() - 29.9))
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await second
        gate.open.set()
        assert await first == 2
    await gatherer.close()


async def test_deadlines_leave_no_timer_behind() -> None:
    gate = Gate()
    gate.open.set()
    gatherer = _gatherer(gate)
    for request in (1, 2):
        assert await gatherer.ask(request) == 2 * request
        assert _timers(gatherer) == 1
        gatherer._admission.end_expired()  # as the timer does, once no caller waits
        assert _timers(gatherer) == 0
    await gatherer.ask(3)
    await gatherer.close()
    assert _timers(gatherer) == 0


def _timers(gatherer: Gatherer[int, int]) -> int:
    return int(_has_timer(gatherer._admission))


async def test_a_long_queue_and_a_long_wait_are_refused() -> None:
    gate = Gate()
    gatherer = _gatherer(gate, queue_max=2)
    asked = await _asked(gatherer, [1])
    await gate.called.wait()
    asked += await _asked(gatherer, [2, 3])
    with pytest.raises(Overloaded):
        await gatherer.ask(4)
    gate.open.set()
    assert await asyncio.gather(*asked) == [2, 4, 6]

    impatient = _gatherer(gate, wait_max_seconds=1e-12, batch_max=1)
    gate.called.clear()
    assert await impatient.ask(1) == 2  # nothing is known yet of how long one takes
    gate.open.clear()
    asked = await _asked(impatient, [2])
    await gate.called.wait()
    asked += await _asked(impatient, [3])
    with pytest.raises(Overloaded):
        await impatient.ask(4)
    gate.open.set()
    assert await asyncio.gather(*asked) == [4, 6]


async def test_closing_answers_what_waits_and_takes_no_more() -> None:
    gate = Gate()
    gatherer = _gatherer(gate)
    asked = await _asked(gatherer, [1, 2, 3, 4, 5])
    closing = asyncio.create_task(gatherer.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await gatherer.ask(6)
    gate.open.set()
    await closing
    assert [task.result() for task in asked] == [2, 4, 6, 8, 10]


async def test_the_next_batch_waits_for_the_last_until_it_is_full() -> None:
    gate = Gate()
    gatherer = _gatherer(gate, batches_max=2)
    asked = await _asked(gatherer, [1])
    await gate.called.wait()
    asked += await _asked(gatherer, [2, 3, 4])
    assert gate.batches == [[1]]
    gate.called.clear()
    asked += await _asked(gatherer, [5, 6])
    await gate.called.wait()
    assert gate.batches == [[1], [2, 3, 4, 5]]
    gate.open.set()
    assert await asyncio.gather(*asked) == [2, 4, 6, 8, 10, 12]


async def test_callers_enough_for_two_batches_are_halved() -> None:
    gate = Gate()
    gatherer = _gatherer(gate, batch_max=8, batches_max=2, half_min=3)
    asked = await _asked(gatherer, range(7))
    await _until(lambda: len(gate.batches) == 1)
    assert gate.batches == [[0, 1, 2, 3]], "of the other half one is missing"
    asked += await _asked(gatherer, [7])
    await _until(lambda: len(gate.batches) == 2)
    assert gate.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
    gate.open.set()
    assert await asyncio.gather(*asked) == [2 * request for request in range(8)]


async def test_half_a_batch_is_not_made_of_a_few() -> None:
    gate = Gate()
    gatherer = _gatherer(gate, batch_max=8, batches_max=2, half_min=3)
    asked = await _asked(gatherer, [0])
    await _until(lambda: len(gate.batches) == 1)
    asked += await _asked(gatherer, [1, 2])
    assert gate.batches == [[0]], "as many wait as are in flight, but they are few"
    asked += await _asked(gatherer, [3])
    await _until(lambda: len(gate.batches) == 2)
    assert gate.batches == [[0], [1, 2, 3]]
    gate.open.set()
    await asyncio.gather(*asked)


async def test_callers_of_one_answer_stay_together() -> None:
    """Halved, they would ask for it twice."""
    gate = Gate()
    gate.open.set()
    gatherer = _gatherer(gate, batch_max=8, batches_max=2, half_min=2)
    await asyncio.gather(*await _asked(gatherer, [1, 1]))  # small numbers are one object
    gate.batches.clear()
    await asyncio.gather(*await _asked(gatherer, [1] * 8))
    assert gate.batches == [[1] * 8]
    await asyncio.gather(*await _asked(gatherer, [1, 2, 3]))
    gate.batches.clear()
    await asyncio.gather(*await _asked(gatherer, [1, 2, 3, 4]))
    assert gate.batches == [[1, 2], [3, 4]], "and those of several answers part again"


def _is_twice(answer: int, request: int) -> bool:
    return answer == 2 * request


async def test_whoever_came_meanwhile_is_told_what_callers_share() -> None:
    gate = Gate()
    gatherer = _gatherer(gate, Sharing(_is_twice))
    asked = await _asked(gatherer, [1, 1])
    await gate.called.wait()
    asked += await _asked(gatherer, [1, 2, 1, 1])
    asked[3].cancel()
    gate.open.set()
    assert await asyncio.gather(*asked[:3], *asked[4:]) == [2, 2, 2, 2, 2]
    assert gate.batches == [[1, 1], [1]], "the newest is asked for, so that an answer is under way meanwhile"


async def test_whom_the_answer_does_not_serve_is_asked_for() -> None:
    gate = Gate()
    gatherer = _gatherer(gate, Sharing(_is_twice))
    asked = await _asked(gatherer, [1, 1])
    await gate.called.wait()
    asked += await _asked(gatherer, [2, 1, 13, 3])
    gate.open.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [*answers[:4], answers[5]] == [2, 2, 4, 2, 6]
    assert isinstance(answers[4], ValueError)
    assert gate.batches == [[1, 1], [2, 13, 3]]


async def test_without_leave_an_answer_is_asked_for_after_its_caller_came() -> None:
    gate = Gate()
    gatherer = _gatherer(gate)
    asked = await _asked(gatherer, [1, 1])
    await gate.called.wait()
    asked += await _asked(gatherer, [1, 1, 1])
    gate.open.set()
    assert await asyncio.gather(*asked) == [2] * 5
    assert gate.batches == [[1, 1], [1, 1, 1]]


class _Forgetful(Sharing[int, tuple[int, int]]):
    """A planted bug: an answer is shared although another batch may have returned a newer one meanwhile."""

    def is_newest(self, begun: int) -> bool:  # noqa: ARG002
        return True


async def _steps_back(kind: type[Sharing[int, tuple[int, int]]], seed: int) -> int:
    """How often a reader was given an older state than before, by stores that change and answer at any time."""
    chance = random.Random(seed)
    version = 0

    async def send(requests: list[int]) -> Sequence[tuple[int, int]]:
        nonlocal version
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        version += 1
        states = {request: (request, version) for request in requests}
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        return [states[request] for request in requests]

    bounds = USUAL._replace(batches_max=3, half_min=2, patience_seconds=0)
    gatherer = Gatherer("unit", send, bounds, kind(lambda answer, request: answer[0] == request))
    back = 0

    async def read() -> None:
        nonlocal back
        seen = [0, 0]
        for _ in range(60):
            key = int(chance.random() < 0.1)
            _, state = await gatherer.ask(key)
            back += state < seen[key]
            seen[key] = state
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)

    await asyncio.gather(*(read() for _ in range(8)))
    return back


async def test_no_reader_goes_back_in_time(rng: random.Random) -> None:
    assert [await _steps_back(Sharing, rng.randrange(2**32)) for _ in range(20)] == [0] * 20


async def test_a_reader_that_goes_back_in_time_is_caught() -> None:
    assert any([await _steps_back(_Forgetful, seed) for seed in range(20)])


async def test_of_one_lane_all_who_wait_share_a_batch() -> None:
    gate = Gate()
    gate.open.set()
    gatherer = _gatherer(gate, batch_max=8, half_min=1)
    await asyncio.gather(*await _asked(gatherer, range(8)))
    assert gate.batches == [list(range(8))]


async def test_a_slow_batch_keeps_nobody_waiting() -> None:
    """Neither who waited when it became slow, nor who comes later; up to as many batches as there may be."""
    gate = Gate()
    gatherer = _gatherer(gate, batches_max=3, patience_seconds=0.001)
    asked: list[asyncio.Task[int]] = []
    async with asyncio.timeout(5):
        for request in (1, 2):
            asked += await _asked(gatherer, [request])
            await gate.called.wait()
            gate.called.clear()
        # Both are slow, and nobody waits, once a later timer than theirs has come.
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0.002, later.set)
        await later.wait()
        asked += await _asked(gatherer, [3])
        await gate.called.wait()
        asked += await _asked(gatherer, [4])
        asyncio.get_running_loop().call_later(0.002, later.set)
        await later.wait()
        assert gate.batches == [[1], [2], [3]]
        assert len(gatherer._admission.waiting) == 1
        gate.open.set()
        assert await asyncio.gather(*asked) == [2, 4, 6, 8]


def _entered(admission: Admission[int, int], *requests: int) -> list["asyncio.Future[int]"]:
    return [admission.enter(request) for request in requests]


async def test_admission_takes_requests_in_their_order_and_leaves_out_callers_that_left() -> None:
    admission: Admission[int, int] = Admission(USUAL)
    answers = _entered(admission, 1, 2, 3, 4)
    answers[1].cancel()
    assert [waiter.request for waiter in admission.take(2)] == [1, 3]
    assert [waiter.request for waiter in admission.take(2)] == [4]
    assert admission.take(2) == []
    admission.stop_timer()


async def test_admission_estimates_the_wait_by_whole_batches_ahead() -> None:
    """Three waiting requests of batches of four are no batch, four are one; two batches at once halve the wait."""
    for batches_max, refused_at in ((1, 4), (2, 8)):
        admission: Admission[int, int] = Admission(USUAL._replace(batches_max=batches_max, wait_max_seconds=0.15))
        admission.returned([], 1.0)  # a fifth of the estimate: 0.2 s a batch
        _entered(admission, *range(refused_at))
        with pytest.raises(Overloaded):
            admission.enter(refused_at)
        admission.stop_timer()


async def test_admission_fails_expired_callers_by_what_is_known_of_their_effect() -> None:
    admission: Admission[int, int] = Admission(USUAL)
    sent, waiting = admission.enter(1, monotonic() - 61), admission.enter(2, monotonic() - 61)
    in_time = admission.enter(3)
    batch = [admission.waiting.popleft()]
    admission.sent(batch)
    admission.end_expired()
    assert type(sent.exception()) is Unavailable, "the effect is unknown"
    assert type(waiting.exception()) is Overloaded, "the request was not sent"
    assert not in_time.done()
    assert _has_timer(admission)
    admission.close()
    with pytest.raises(Unavailable):
        admission.enter(4)
    admission.stop_timer()
    assert not _has_timer(admission)


async def test_pacing_sends_one_batch_after_another_but_for_halves() -> None:
    pacing = Pacing(USUAL._replace(batch_max=8, batches_max=2, half_min=3))
    assert pacing.is_due(1), "no lane is open"
    assert pacing.open_lane()
    assert [pacing.size_max(waiting) for waiting in (1, 6, 7, 100)] == [3, 3, 4, 8]
    with pacing.flight(4, lambda: None):
        assert [pacing.is_due(waiting) for waiting in (1, 3, 4)] == [False, False, True]
        assert pacing.size_max(4) == 4
        pacing.keep_together(shared=True)
        assert [pacing.is_due(waiting) for waiting in (4, 7, 8)] == [False, False, True]
        assert pacing.size_max(4) == 8
        pacing.keep_together(shared=False)
        assert pacing.is_due(4)
    assert not pacing.is_due(8), "nothing is in flight: the lane is about to take them"
    assert pacing.open_lane()
    assert not pacing.open_lane()


async def test_pacing_opens_a_lane_next_to_a_slow_batch_and_only_while_it_is_slow() -> None:
    pacing = Pacing(USUAL._replace(batches_max=2, patience_seconds=0))
    assert pacing.open_lane()
    slow = asyncio.Event()
    with pacing.flight(1, slow.set):
        assert not pacing.is_due(1)
        async with asyncio.timeout(5):
            await slow.wait()
        assert pacing.is_due(1)
    assert not pacing.is_due(1)


def _waiting(*requests: int) -> deque[Waiter[int, int]]:
    loop = asyncio.get_running_loop()
    return deque(Waiter(request, loop.create_future(), 0.0) for request in requests)


async def test_sharing_gives_an_answer_of_several_callers_to_all_it_serves_but_the_newest() -> None:
    sharing: Sharing[int, int] = Sharing(_is_twice)
    waiting = _waiting(1, 2, 1, 1)
    first, other, second, newest = waiting
    sharing.end([2, 2], sharing.begin(), waiting)
    assert (first.answer.result(), second.answer.result()) == (2, 2)
    assert list(waiting) == [other, newest]
    assert sharing.is_usual
    sharing.end([2, 4, 6], sharing.begin(), waiting)
    assert not sharing.is_usual, "three answers, three callers"


async def test_sharing_keeps_an_answer_to_its_batch_if_another_batch_returned_meanwhile() -> None:
    sharing: Sharing[int, int] = Sharing(_is_twice)
    older, newer = sharing.begin(), sharing.begin()
    sharing.end([2, 2], newer, _waiting())
    waiting = _waiting(1, 1)
    sharing.end([2, 2], older, waiting)
    assert len(waiting) == 2
    sharing.end([2, 2], sharing.begin(), waiting)
    assert len(waiting) == 1


async def test_sharing_gives_neither_errors_nor_nothing() -> None:
    sharing: Sharing[int, int] = Sharing(lambda _answer, _request: True)
    waiting = _waiting(1, 1)
    sharing.end([ValueError("thirteen"), ValueError("thirteen")], sharing.begin(), waiting)
    assert len(waiting) == 2
    assert not sharing.is_usual
