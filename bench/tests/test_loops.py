"""The closed loop, against a server that echoes bodies; and the reading of pgbench's log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from bench.load.arms import Echo
from bench.load.client import Address
from bench.load.loops import ClosedLoop, Load, OpenLoop
from bench.load.pgbench import PgbenchError, window
from bench.load.workload import Workload


@asynccontextmanager
async def _echoing(
    *, answers_max: int | None = None, status: bytes = b"200", stall_seconds: float = 0.0
) -> AsyncIterator[Address]:
    """Hangs up on all clients after `answers_max` answers. Answers no client for the first `stall_seconds`."""
    given = 0
    wakes = asyncio.get_running_loop().time() + stall_seconds

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal given
        while head := await reader.readline():
            while (line := await reader.readline()) != b"\r\n":
                head += line
            body = await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
            given += 1
            await asyncio.sleep(max(0.0, wakes - asyncio.get_running_loop().time()))
            if answers_max is not None and given > answers_max:
                break
            writer.write(b"HTTP/1.1 %b .\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname())


def _loop() -> ClosedLoop[Any]:
    return ClosedLoop(Echo(Workload(people=10, seed=1), host="unit"), warmup_seconds=0.05, seconds=0.2)


async def test_answers_within_the_window_are_timed() -> None:
    async with _echoing() as address:
        load = await _loop().run(address, clients=4)
    assert load.wrong == 0
    assert 4 < len(load.latencies) < load.requests
    assert all(0 < latency < 0.5 for latency in load.latencies)
    assert load.cpu_seconds is not None
    assert 0 < load.cpu_seconds < 0.25


def test_it_runs_on_uvloop_as_in_the_generator() -> None:
    async def run() -> Load:
        async with _echoing() as address:
            return await _loop().run(address, clients=4)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()).requests > 4


async def test_wrong_answers_are_counted_and_the_first_are_shown() -> None:
    async with _echoing(status=b"500") as address:
        load = await _loop().run(address, clients=2)
    assert load.wrong == load.requests > 5
    assert len(load.wrong_shown) == 5
    assert " 500 " in load.wrong_shown[0]


async def test_a_lost_connection_is_no_measurement() -> None:
    async with _echoing(answers_max=20) as address:
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_loop().run(address, clients=4), timeout=5)


def _open_loop(*, rate: float) -> OpenLoop[Any]:
    arm = Echo(Workload(people=10, seed=1), host="unit")
    return OpenLoop(arm, rate=rate, warmup_seconds=0.0, seconds=0.4)


async def test_an_open_load_offers_its_rate() -> None:
    async with _echoing() as address:
        load = await _open_loop(rate=200).run(address, clients=8)
    assert load.wrong == 0
    assert len(load.latencies) == load.requests == len(load.lateness) == pytest.approx(80, abs=1)


async def test_an_open_load_charges_a_stall_to_all_that_were_due_meanwhile() -> None:
    async with _echoing(stall_seconds=0.2) as address:
        load = await _open_loop(rate=200).run(address, clients=1)
    # Due at 0, 5, 10 … ms, and none answered before 200 ms: the wait of the n-th counts from when it was due.
    assert len(load.latencies) == pytest.approx(80, abs=1)
    assert sum(latency > 0.1 for latency in load.latencies) >= 15


async def test_an_open_load_that_loses_a_connection_is_no_measurement() -> None:
    async with _echoing(answers_max=20) as address:
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_open_loop(rate=200).run(address, clients=4), timeout=5)


def test_pgbench_log_is_read_from_the_first_transactions_start() -> None:
    lines = [
        "0 1 1000 0 100 1000",  # 100.000 to 100.001: the run begins here
        "1 1 2000 0 100 499000",  # still warm-up
        "0 2 3000 0 100 500000",
        "1 2 4000 0 101 499000",
        "0 3 5000 0 101 500000",  # after the window
    ]
    load = window(lines, warmup_seconds=0.5, seconds=1.0)
    assert list(load.latencies) == [0.003, 0.004]
    assert (load.requests, load.wrong, load.cpu_seconds) == (5, 0, None)


def test_an_empty_pgbench_log_is_no_measurement() -> None:
    with pytest.raises(PgbenchError):
        window([], warmup_seconds=0.5, seconds=1.0)
