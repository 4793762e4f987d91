"""The relay ends at signals, also in a loop that has no handlers of signals, as on Windows."""

import asyncio
import signal

import pytest

from nexus_graph.relay import call_at_signals


@pytest.mark.parametrize("has_handlers", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_relay(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, *, has_handlers: bool
) -> None:
    loop = asyncio.get_running_loop()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def refuse(*_: object) -> None:
        raise NotImplementedError

    if not has_handlers:
        monkeypatch.setattr(loop, "add_signal_handler", refuse)
    stopped = asyncio.Event()
    try:
        call_at_signals(stopped.set)
        signal.raise_signal(number)
        async with asyncio.timeout(5):
            await stopped.wait()
    finally:
        for each, handler in before.items():
            loop.remove_signal_handler(each)
            signal.signal(each, handler)
