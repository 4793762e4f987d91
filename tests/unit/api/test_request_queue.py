"""Requests begin in rounds: in order, each once, and are refused once the wait would be too long."""

import random

import pytest

from nexus_graph.api.http import request_queue as subject
from nexus_graph.api.http.request_queue import RequestQueue


def test_every_request_begins_once_and_in_order(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_ROUND_FIRST_REQUESTS", 4)
    monkeypatch.setattr(subject, "_ROUND_MIN_REQUESTS", 3)
    queue = RequestQueue(wait_max_seconds=1e9)
    started: list[int] = []
    asked = begun = most_at_once = 0
    for _ in range(5_000):
        if rng.random() < 0.5:
            queue.begin(started.append, asked)
            asked += 1
        elif begun < len(started):
            begun += 1
            queue.begun()
        elif rng.random() < 0.1:
            queue.measure()
        most_at_once = max(most_at_once, len(started) - begun)
    while begun < asked:
        assert begun < len(started), "one waits, and none is there to start it"
        begun += 1
        queue.begun()
    assert started == list(range(asked))
    assert most_at_once > 2
    assert queue.room > 0


def test_a_round_is_no_larger_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_ROUND_FIRST_REQUESTS", 4)
    queue = RequestQueue(wait_max_seconds=1e9)
    started: list[int] = []
    for number in range(10):
        queue.begin(started.append, number)
    assert started == [0, 1, 2, 3]
    for _ in range(4):
        queue.begun()
    assert started == list(range(8))


def test_it_is_overloaded_while_those_who_wait_would_wait_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr(subject, "_ROUND_FIRST_REQUESTS", 1)
    monkeypatch.setattr(subject, "_ROUND_MIN_REQUESTS", 1)
    monkeypatch.setattr(subject, "perf_counter", lambda: next(clock))
    queue = RequestQueue(wait_max_seconds=2.0)
    started: list[int] = []
    for number in range(5):
        queue.begin(started.append, number)
    queue.begun()
    assert not _is_overloaded(queue), "what a request costs is not known yet"
    queue.measure()  # one request in ten seconds
    assert _is_overloaded(queue)
    for _ in range(4):
        queue.begun()
    assert started == [0, 1, 2, 3, 4]
    assert not _is_overloaded(queue)


def test_one_slow_request_does_not_refuse_the_many_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request of a process prepares what later requests find ready."""
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(subject, "perf_counter", lambda: next(clock))
    queue = RequestQueue(wait_max_seconds=2.0)
    queue.begin(lambda _: None, 0)
    queue.begun()
    queue.measure()  # one request in ten seconds
    for number in range(300):
        queue.begin(lambda _: None, number)
    assert queue.waiting
    assert not _is_overloaded(queue)


def _is_overloaded(queue: RequestQueue) -> bool:
    return queue.overloaded
