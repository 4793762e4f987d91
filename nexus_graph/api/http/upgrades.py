"""uvicorn's HTTP protocol, with requests to upgrade to anything but a WebSocket answered like any other request.

Java's HttpClient asks every server to go on in HTTP/2 (`Upgrade: h2c`), and sends its request along. A server that does
not upgrade ignores the header and answers the request (RFC 9110, section 7.8). The parser takes the bytes after such a
head for another protocol, and skips the body. So the head is parsed again without the Upgrade header.
"""

from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

PARSER_STOPS: Final = (httptools.HttpParserUpgrade, httptools.HttpParserError)
"""The parser's error where it stops."""
_WEBSOCKET: Final = b"websocket"
_UPGRADE: Final = b"upgrade"


class UpgradesProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which ignores upgrades that are not served."""

    _ignored: bool = False
    """True if the last head asked for an upgrade that is ignored: it is parsed again."""

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except PARSER_STOPS as stop:
            self.parse_on(data, stop)

    def parse_on(self, data: bytes, stop: Exception) -> None:
        """Handle the parser's stop, and parse the rest of the data."""
        rest: bytes | None = data
        while rest is not None:
            if not isinstance(stop, httptools.HttpParserUpgrade):
                self.send_400_response("Invalid HTTP request received.")
                return
            rest = self._upgraded(rest[stop.args[0] :])
            if rest is not None:
                try:
                    self.parser.feed_data(rest)
                except PARSER_STOPS as another:
                    stop = another
                else:
                    return

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self.parser.should_upgrade() and _UPGRADE in dict(self.headers) and not self._should_upgrade():
            self._ignored = True
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if not self._ignored:
            super().on_message_complete()

    def _upgraded(self, behind: bytes) -> bytes | None:
        """Handle the head's upgrade. Returns the data to parse next; `behind` follows the head."""
        if self._ignored:
            self._ignored = False
            return self._begin_again() + behind
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        return None

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
