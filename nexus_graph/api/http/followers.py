"""Bounds on clients that follow: how many there are at once, and how long each may take for a message."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from nexus_graph.errors import Overloaded
from nexus_graph.telemetry import SUBSCRIBERS_CUT, log

_LOG = log("followers")

MESSAGE_SECONDS: Final = 5.0
"""Seconds in which a client must take a message: one that is cut comes again and goes on where it was."""

_LOOKS: Final = 5
"""Looks at a connection during the time that a client has: the client may take a fifth longer."""


class Places:
    """A place for each client: for the WebSockets and the event streams of one process together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0

    def require(self) -> None:
        """Raises Overloaded if no place is free."""
        if self._taken >= self.most:
            raise Overloaded(f"too many sockets are open: at most {self.most} a process, event streams among them")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place for the time of the block, even if none is free: call `require` before."""
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class SendTimeout:
    """Calls `lost`, once, after a client took nothing for `seconds` while a message was on its way.

    One timer serves a connection: a timer costs more than a message.
    """

    def __init__(self, transport: str, lost: Callable[[], None]) -> None:
        """`transport`: the label in metrics and the log."""
        self._transport = transport
        self.seconds = MESSAGE_SECONDS
        self._lost = lost
        self._sending = 0
        self._since = 0.0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self.seconds / _LOOKS, self._look)

    def __enter__(self) -> None:
        """A message is on its way during the block; the client took it, or will not, at the end."""
        if self._sending == 0:
            self._since = monotonic()
        self._sending += 1

    def __exit__(self, *_: object) -> None:
        self._sending -= 1
        self._since = monotonic()

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._sending and monotonic() - self._since > self.seconds:
            SUBSCRIBERS_CUT.labels(self._transport).inc()
            _LOG.warning("subscriber_too_slow", transport=self._transport)
            self._lost()
        else:
            self._timer = self._loop.call_later(self.seconds / _LOOKS, self._look)
