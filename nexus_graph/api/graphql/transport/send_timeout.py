"""The time that a client has to take a message. One timer serves a connection: a timer costs more than a message."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

_LOOKS: Final = 5
"""Looks at a connection during the time that a client has: the client may take a fifth longer."""


class SendTimeout:
    """Calls `lost`, once, after a client took nothing for `seconds` while a message was on its way."""

    def __init__(self, seconds: float, lost: Callable[[], None]) -> None:
        self._seconds = seconds
        self._lost = lost
        self._sending = 0
        self._since = 0.0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds / _LOOKS, self._look)

    def began(self) -> None:
        """Something is on its way."""
        if self._sending == 0:
            self._since = monotonic()
        self._sending += 1

    def ended(self) -> None:
        """The client took it, or will not."""
        self._sending -= 1
        self._since = monotonic()

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._sending and monotonic() - self._since > self._seconds:
            self._lost()
        else:
            self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)
