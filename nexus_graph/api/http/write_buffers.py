"""Bytes that clients have not read yet: bounded for each connection, and for all connections of a process together.

A connection with more than `EACH_MAX_BYTES` unread gets nothing new until its client has read some. If such
connections together have more than `sockets_owed_max_bytes` unread, the one that has read nothing for longest is cut.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from nexus_graph import telemetry
from nexus_graph.config import Settings

EACH_MAX_BYTES: Final = 64 * 1024
"""Unread bytes of one connection: as many as asyncio lets a transport hold by default."""

_LOG = telemetry.log("write_buffers")


class WriteBuffers:
    """The connections of a process with too much unread."""

    def __init__(self, settings: Settings) -> None:
        self._all_max_bytes = settings.sockets_owed_max_bytes
        self._unread: dict[asyncio.Transport, int] = {}
        """Unread bytes by connection; the longest wait stands first."""
        self._unread_bytes = 0

    def opened(self, transport: asyncio.Transport) -> None:
        """Bound the unread bytes of this connection."""
        transport.set_write_buffer_limits(high=EACH_MAX_BYTES)

    def paused(self, transport: asyncio.Transport) -> None:
        """The client does not read: call it from `pause_writing`."""
        self.resumed(transport)
        self._unread[transport] = unread = transport.get_write_buffer_size()
        self._unread_bytes += unread
        while self._unread_bytes > self._all_max_bytes:
            longest = next(iter(self._unread))
            _LOG.warning("connection_cut", owed_bytes=self._unread[longest], owed_bytes_of_all=self._unread_bytes)
            telemetry.SUBSCRIBERS_CUT.labels("owed").inc()
            self.resumed(longest)
            longest.abort()

    def resumed(self, transport: asyncio.Transport) -> None:
        """The client has read, or is gone: call it from `resume_writing` and `connection_lost`."""
        self._unread_bytes -= self._unread.pop(transport, 0)


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, for clients that may not read."""

    def __init__(self, buffers: WriteBuffers, **given: Any) -> None:
        """`given`: by uvicorn."""
        super().__init__(**given)
        self._buffers = buffers

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # uvicorn answers each ping at once: a client that sends pings and reads nothing would grow without bound.
        if not self.writable.is_set():
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._buffers.paused(self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._buffers.resumed(self.transport)
        if not self.read_paused:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._buffers.resumed(self.transport)
        super().connection_lost(exc)
