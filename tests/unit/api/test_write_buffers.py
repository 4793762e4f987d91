"""What clients are owed is bounded for all of them together: the one that took nothing for longest is cut first."""

import asyncio

import pytest

from nexus_graph.api.http.write_buffers import WriteBuffers
from nexus_graph.config import Settings

SETTINGS = Settings(sockets_owed_max_bytes=3_000)


class Wire(asyncio.Transport):
    """Owed as much as it says."""

    def __init__(self, owed_bytes: int) -> None:
        super().__init__()
        self.owed_bytes = owed_bytes
        self.most_bytes: int | None = None
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.owed_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002 - as asyncio
        self.most_bytes = high

    def abort(self) -> None:
        self.aborted = True


def aborted(wires: list[Wire]) -> list[bool]:
    return [wire.aborted for wire in wires]


def test_each_connection_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_graph.api.http.write_buffers.EACH_MAX_BYTES", 1_024)
    wire = Wire(0)
    WriteBuffers(SETTINGS).opened(wire)
    assert wire.most_bytes == 1_024


def test_past_the_sum_the_longest_waiting_is_cut() -> None:
    buffers, wires = WriteBuffers(SETTINGS), [Wire(1_000) for _ in range(5)]
    for wire in wires[:3]:
        buffers.paused(wire)
    assert aborted(wires) == [False] * 5
    buffers.resumed(wires[0])
    buffers.paused(wires[3])
    assert aborted(wires) == [False] * 5
    buffers.paused(wires[4])
    assert aborted(wires) == [False, True, False, False, False]


def test_one_that_is_owed_more_than_all_may_be_is_cut_alone() -> None:
    buffers, small, large = WriteBuffers(SETTINGS), Wire(1), Wire(4_000)
    buffers.paused(small)
    buffers.resumed(small)
    buffers.paused(large)
    assert (small.aborted, large.aborted) == (False, True)
    buffers.paused(small)
    assert not small.aborted
