"""uvicorn's HTTP protocol, with an answer's head and body in one write.

uvicorn writes the head when it is known and the body when it comes: two system calls, two packets, and a client that is
woken twice. Here the head waits for what follows it in the same turn of the loop, and goes out alone if nothing does.
"""

import asyncio
from typing import Any, Final

from nexus_graph.api.upgrades import UpgradesProtocol

_HEAD: Final = b"HTTP/1.1 "


class OneWriteProtocol(UpgradesProtocol):
    """As uvicorn's, on a transport that joins."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Called by the loop."""
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]


class JoiningTransport:
    """A transport that holds the head of an answer until the next write, or the loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self._flushing: asyncio.Handle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As a transport's; in order."""
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

    def close(self) -> None:
        """As a transport's: what was written goes out first."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        self._flushing = None
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)
