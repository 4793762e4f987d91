"""The window: against a model that remembers every call, and against its promise, with a planted bug convicted."""

import random
from math import ceil
from typing import NamedTuple

import pytest

from nexus_graph.door.window import Window
from nexus_graph.rate import Rate

RATE = Rate(100, 60)


class Call(NamedTuple):
    at: float
    cost: int
    is_let_in: bool


class Model:
    """Remembers what was counted, each with its window, and adds it all up each time."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.counted: list[tuple[int, int]] = []
        self.first = 0.0

    def spend(self, at: float, cost: int) -> bool:
        window = int((at - self.first) // self.rate.seconds)
        if not any(one >= window - 1 for one, _ in self.counted):
            self.first, self.counted, window = at, [], 0
        now = sum(counted for one, counted in self.counted if one == window)
        before = sum(counted for one, counted in self.counted if one == window - 1)
        passed = (at - self.first) / self.rate.seconds - window
        used = now + before * (1 - passed)
        is_let_in = used + cost <= self.rate.amount
        if is_let_in or used <= self.rate.amount:
            self.counted.append((window, cost if is_let_in else 1))
        return is_let_in


class Resetting(Window):
    """The planted bug: what was used in the window before is forgotten."""

    __slots__ = ()

    def _turn(self, at: float, seconds: int) -> None:
        super()._turn(at, seconds)
        self.before = 0


def arrivals(rng: random.Random, rate: Rate, calls: int) -> list[tuple[float, int]]:
    """Bursts, pauses and steady calls, on an eighth of a second, which numbers hold exactly."""
    at, found = 1_000.0, []
    pace = 0.0
    for _ in range(calls):
        if rng.random() < 0.02:
            pace = rng.choice([0.0, 0.0, 0.125, 1.0, rate.seconds / 8, float(rate.seconds)])
        at += rng.choice([0.0, pace]) if rng.random() < 0.99 else rng.randrange(16 * rate.seconds) / 8
        found.append((at, rng.choice([1, 1, 1, 1, 2, 7, max(1, rate.amount // 2), rate.amount, rate.amount + 1])))
    return found


def played(window: Window, rate: Rate, calls: list[tuple[float, int]]) -> list[Call]:
    return [Call(at, cost, window.spend(at, cost, rate)) for at, cost in calls]


def broken_promises(rate: Rate, calls: list[Call]) -> list[tuple[Call, Call]]:
    """First and last calls of times in which more was let in than `amount * (1 + d / seconds)`."""
    let_in = [call for call in calls if call.is_let_in]
    found = []
    for number, first in enumerate(let_in):
        spent = 0
        for last in let_in[number:]:
            if (took := last.at - first.at) > rate.seconds:
                break
            spent += last.cost
            if spent > rate.amount * (1 + took / rate.seconds) + 1e-3:
                found.append((first, last))
    return found


def test_it_lets_in_what_the_model_lets_in(rng: random.Random) -> None:
    for _ in range(30):
        rate = Rate(rng.choice([1, 2, 10, 64, 100]), rng.choice([1, 8, 64]))
        calls = arrivals(rng, rate, 400)
        model = Model(rate)
        expected = [Call(at, cost, model.spend(at, cost)) for at, cost in calls]
        assert played(Window(0.0), rate, calls) == expected, rate


def test_it_keeps_its_promise_and_one_that_resets_does_not(rng: random.Random) -> None:
    convicted = 0
    for _ in range(30):
        rate = Rate(rng.choice([2, 10, 64, 100]), rng.choice([1, 8, 60]))
        calls = arrivals(rng, rate, 400)
        assert broken_promises(rate, played(Window(0.0), rate, calls)) == [], rate
        convicted += bool(broken_promises(rate, played(Resetting(0.0), rate, calls)))
    assert convicted


def test_a_window_that_resets_lets_in_twice_as_much_in_no_time() -> None:
    around = [(1_000.0, 1)] + [(1_059.875, 1)] * 99 + [(1_060.0, 1)] * 100
    assert sum(call.is_let_in for call in played(Resetting(0.0), RATE, around)) == 200
    assert sum(call.is_let_in for call in played(Window(0.0), RATE, around)) == 100


def test_the_first_window_of_a_quiet_caller_holds_the_whole_amount_and_no_more() -> None:
    window = Window(0.0)
    assert [window.spend(500 + second / 2, 1, RATE) for second in range(120)] == [True] * 100 + [False] * 20


def test_a_cost_is_let_in_whole_or_not_at_all() -> None:
    window = Window(0.0)
    assert window.spend(1.0, 60, RATE)
    assert not window.spend(1.0, 60, RATE)
    assert window.used(1.0, RATE) == 61  # the refused call counts one
    assert window.spend(1.0, 39, RATE)
    assert not window.spend(1.0, 1, RATE)


def test_who_keeps_asking_too_fast_gets_nothing_and_who_waits_gets_in() -> None:
    window = Window(0.0)
    assert sum(window.spend(1 + tenth / 10, 1, RATE) for tenth in range(3_000)) == 100
    assert window.used(301, RATE) <= RATE.amount + 1
    at = 301.0
    assert window.spend(at + ceil(window.wait_seconds(at, 1, RATE)), 1, RATE)


def test_whoever_waits_as_long_as_the_answer_says_gets_in(rng: random.Random) -> None:
    for _ in range(300):
        rate = Rate(rng.randrange(1, 200), rng.choice([1, 7, 60, 3_600]))
        window = Window(0.0)
        at = 0.0
        for _ in range(rng.randrange(400)):
            at += rng.expovariate(2 * rate.per_second)
            window.spend(at, rng.randrange(1, 4), rate)
        cost = rng.randrange(1, rate.amount + 1)
        wait = window.wait_seconds(at, cost, rate)
        assert 0 <= wait <= 2 * rate.seconds
        if wait > 0.01:
            too_early = Window(window.began, window.before, window.now)
            assert not too_early.spend(at + wait * 0.99, cost, rate)
        assert window.spend(at + wait, cost, rate)


@pytest.mark.parametrize("cost", [RATE.amount + 1, 10 * RATE.amount])
def test_more_than_the_amount_never_gets_in(cost: int) -> None:
    window = Window(0.0)
    assert not window.spend(1_000.0, cost, RATE)
    assert window.wait_seconds(1_000.0, cost, RATE) == 2 * RATE.seconds
