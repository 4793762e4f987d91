"""HTTP/1.1 over kept-alive connections, at the least cost Python allows: no header objects, no streams, one write each.

It speaks to our own servers on trusted addresses. Answers must carry a Content-Length, as all of ours do.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self, cast

JSON = "application/json"
CONNECT_TIMEOUT_SECONDS = 5.0
ANSWER_TIMEOUT_SECONDS = 30.0

_content_length = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE).search
_END_OF_HEAD = b"\r\n\r\n"
_STATUS = slice(len(b"HTTP/1.1 "), len(b"HTTP/1.1 200"))


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"


class Response(NamedTuple):
    """An answer. Header names are in lower case; of a repeated header the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol, ABC):
    """One connection with at most one request in flight. A subclass says what happens to each answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""

    @abstractmethod
    def answered(self, status: int, head: bytes, body: bytes) -> None:
        """A whole answer has arrived; the connection is free for the next request."""

    @abstractmethod
    def lost(self, error: Exception) -> None:
        """The connection has ended; no answer will come any more."""

    def send(self, request: bytes) -> None:
        """Send a request (`request_bytes`). Call it only when none is in flight."""
        assert self._transport is not None
        self._transport.write(request)

    def close(self) -> None:
        """End the connection; `lost` follows."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        end = data.find(_END_OF_HEAD)
        if end < 0:
            self._received = data
            return
        length = _content_length(data, 0, end)
        if length is None:
            self._abort("an answer without a Content-Length")
            return
        start = end + len(_END_OF_HEAD)
        stop = start + int(length[1])
        if len(data) < stop:
            self._received = data
            return
        if len(data) > stop:
            self._abort("bytes after the end of an answer")
            return
        self._received = b""
        self.answered(int(data[_STATUS]), data[:end], data[start:])

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.lost(error or ConnectionResetError("the server closed the connection"))

    def _abort(self, reason: str) -> None:
        assert self._transport is not None
        self._transport.abort()
        self._transport = None
        self.lost(ConnectionError(reason))


def request_head(method: str, path: str, *, host: str, content_type: str = JSON, key: str | None = None) -> bytes:
    """All of a request that is the same each time: put `request_bytes` together from it; `key`: an API key."""
    authorization = "" if key is None else f"Authorization: Bearer {key}\r\n"
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Type: {content_type}\r\nContent-Length: "
    )
    return head.encode("ascii")


def request_bytes(head: bytes, body: bytes) -> bytes:
    """A whole request."""
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)


class HttpClient:
    """One caller: a persistent connection, opened when first needed and again after it was lost.

    Use it from one task at a time. It never sends a request twice: after ConnectionError or TimeoutError it is
    unknown whether the server acted on it.
    """

    def __init__(self, host: str, port: int, *, timeout_seconds: float = ANSWER_TIMEOUT_SECONDS) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._connection: _Asking | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def post(self, path: str, body: bytes, content_type: str = JSON) -> Response:
        """The answer. Raises ConnectionError, OSError or TimeoutError; the next call then opens a new connection."""
        head = request_head("POST", path, host=f"{self._host}:{self._port}", content_type=content_type)
        connection = await self._connected()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await connection.ask(request_bytes(head, body))
        except BaseException:
            # Given up midway, also by cancellation: what still arrives would be taken for the next answer.
            self.close()
            raise

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connected(self) -> "_Asking":
        if self._connection is None or self._connection.is_lost:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                _, self._connection = await asyncio.get_running_loop().create_connection(
                    _Asking, self._host, self._port
                )
        return self._connection


class _Asking(Connection):
    """A connection on which a coroutine waits for each answer."""

    def __init__(self) -> None:
        super().__init__()
        self.is_lost = False
        self._answer: asyncio.Future[Response] | None = None

    async def ask(self, request: bytes) -> Response:
        if self._answer is not None and not self._answer.done():
            raise RuntimeError("one request at a time: this client still waits for an answer")
        self._answer = asyncio.get_running_loop().create_future()
        self.send(request)
        return await self._answer

    def answered(self, status: int, head: bytes, body: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Response(status, _headers(head), body))

    def lost(self, error: Exception) -> None:
        self.is_lost = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}
