"""uvicorn's HTTP protocol, for which a request to upgrade to anything but a WebSocket is a request like any other.

Java's HttpClient asks every server to go on in HTTP/2 (`Upgrade: h2c`), and sends its request along. A server that does
not upgrade ignores the header and answers the request (RFC 9110, section 7.8). The parser takes all that follows such a
head for another protocol, and skips the body. So the head is parsed once more without the header that asks.
"""

from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

PARSER_STOPS: Final = (httptools.HttpParserUpgrade, httptools.HttpParserError)
"""What the parser raises where it goes no further."""
_WEBSOCKET: Final = b"websocket"
_UPGRADE: Final = b"upgrade"


class UpgradesProtocol(HttpToolsProtocol):
    """As uvicorn's, with upgrades ignored that are not served."""

    _ignored: bool = False
    """The head that was parsed last asked for an upgrade that is ignored: it is to be parsed again."""

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except PARSER_STOPS as stop:
            self.parse_on(data, stop)

    def parse_on(self, data: bytes, stop: Exception) -> None:
        """Do as the parser's stop demands, and parse what is left of the data."""
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
        """Do as the head asked for; what is to be parsed next, `behind` stands behind the head."""
        if self._ignored:
            self._ignored = False
            return self._begin_again() + behind
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        return None

    def _begin_again(self) -> bytes:
        """A new parser for what is left of the connection; the head to begin with, without the header that asked."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        kept = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != _UPGRADE]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(kept))

    def _should_upgrade(self) -> bool:
        """Whether a WebSocket is asked for in a way that can be answered (RFC 6455, section 4.1)."""
        return (
            self._get_upgrade() == _WEBSOCKET
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and self._should_upgrade_to_ws()
        )
