"""uvicorn's HTTP protocol, with an answer's head and body in one write.

uvicorn writes the head when it is known and the body when it comes: two system calls, two packets, and a client that
wakes twice. Here the head waits for the body of the same turn of the loop, and goes out alone if no body comes.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from nexus_graph.api.http.upgrades import UpgradesProtocol

_HEAD: Final = b"HTTP/1.1 "


class OneWriteProtocol(UpgradesProtocol):
    """uvicorn's protocol on a transport that joins writes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Called by the loop."""
        super().connection_made(JoiningTransport(transport, self.loop, self._end))  # type: ignore[arg-type]

    def _end(self, transport: asyncio.Transport) -> None:
        """End the connection: the last answer was written."""
        transport.close()


class JoiningTransport:
    """A transport that holds the head of an answer until the next write, or the loop's next turn."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, end: Callable[[asyncio.Transport], None]
    ) -> None:
        """`end` closes the transport, once, when `close` is called."""
        self._transport = transport
        self._loop = loop
        self._end = end
        self._ended = False
        self._head: bytes | None = None
        self._flushing: asyncio.Handle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As a transport's, in order. After `close` it writes nothing."""
        if self._ended:
            return
        if self._head is not None:
            data, self._head = self._head + data, None
            if self._flushing is not None:
                self._flushing.cancel()
                self._flushing = None
        elif data.startswith(_HEAD):
            self._head = data
            self._flushing = self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def is_closing(self) -> bool:
        """As a transport's."""
        return self._ended or self._transport.is_closing()

    def close(self) -> None:
        """As a transport's: earlier writes go out first."""
        if not self._ended:
            self._flush()
            self._ended = True
            self._end(self._transport)

    def _flush(self) -> None:
        self._flushing = None
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)
