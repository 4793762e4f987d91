"""uvicorn's HTTP protocol, with two differences.

The head and the body of an answer are one write. uvicorn writes the head when it is known and the body when it comes:
two system calls, two packets, and a client that wakes twice. Here the head waits for the body of the same turn of the
loop, and goes out alone if no body comes.

A request to upgrade to anything but a WebSocket is answered like any other. Java's HttpClient asks every server to go
on in HTTP/2 (`Upgrade: h2c`), and sends its request along. A server that does not upgrade ignores the header and
answers the request (RFC 9110, section 7.8). The parser takes the bytes after such a head for another protocol, and
skips the body. So the head is parsed again without the Upgrade header.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_WEBSOCKET: Final = b"websocket"
_UPGRADE: Final = b"upgrade"
_HEAD: Final = b"HTTP/1.1 "


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with these two differences. As there, the loop calls `connection_made` to `eof_received`, the
    transport `pause_writing` and `resume_writing`, the parser `on_message_begin` to `on_message_complete`.
    """

    _ignored: bool = False
    """True if the last head asked for an upgrade that is ignored: it is parsed again."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(JoiningTransport(transport, self.loop, self._end))  # type: ignore[arg-type]

    def _end(self, transport: asyncio.Transport) -> None:
        """End the connection: the last answer was written."""
        transport.close()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self.parse(data)

    def parse(self, data: bytes) -> None:
        """Parse the data; a head whose upgrade is ignored once more, and then what follows it."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                data = self._upgraded(data[stop.args[0] :])
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and _UPGRADE in dict(self.headers) and not self._should_upgrade():
            self._ignored = True
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._ignored:
            super().on_message_complete()

    def _upgraded(self, behind: bytes) -> bytes:
        """Handle the head's upgrade. Returns the data to parse next; `behind` follows the head."""
        if self._ignored:
            self._ignored = False
            return self._begin_again() + behind
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        return b""

    def _begin_again(self) -> bytes:
        """A new parser for the rest of the connection, and the head without the Upgrade header."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        kept = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != _UPGRADE]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(kept))

    def _should_upgrade(self) -> bool:
        """True if the head asks for a WebSocket as RFC 6455, section 4.1, says."""
        return (
            self._get_upgrade() == _WEBSOCKET
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and self._should_upgrade_to_ws()
        )


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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As a transport's, in order. After `close` it writes nothing."""
        if self._ended:
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
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
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)
