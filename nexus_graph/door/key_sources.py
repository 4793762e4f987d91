"""Where a JWK set is read: a file, or one address that the settings name.

A token never causes a request to an address of its own. An address is asked like this: no proxy, no redirect, no
compression; the host's name is looked up for each connection, and the connection goes to an address that was checked:
every address that the name has must be public, or, where the setting itself names a loopback address, of loopback.
Bytes and time of the answer are bounded.
"""

import asyncio
import os
import socket
import ssl
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import httptools

from nexus_graph.config import Settings, is_loopback, is_public
from nexus_graph.door.key_set import UnusableKeys
from nexus_graph.telemetry import error_name

BYTES_MAX: Final = 256 * 1024
"""The largest JWK set, and the largest answer: large issuers have 2 to 20 kB, certificates included."""

READ_SECONDS: Final = 5.0
"""The longest that a read takes, from the name's look-up to its last byte. Tokens of unknown keys wait for it."""

CONNECT_SECONDS: Final = 2.0
"""The longest that one of several addresses may take to connect."""

ADDRESSES_MAX: Final = 4
"""Addresses of a name that are tried."""


class Rhythm(NamedTuple):
    """How often a set is read, in seconds."""

    refresh: float
    """From a good read to the next."""
    retry: float
    """From a failed read to the next."""
    asked: float
    """The least time between two reads for the sake of unknown keys."""


FILE_RHYTHM: Final = Rhythm(refresh=1.0, retry=1.0, asked=1.0)
"""A look at a file's state costs microseconds."""

ADDRESS_RHYTHM: Final = Rhythm(refresh=300.0, retry=60.0, asked=60.0)
"""A key that the issuer withdraws counts for five minutes more. Unknown keys cost the issuer one request a minute."""


class Source(Protocol):
    """A place that a set is read from."""

    rhythm: Rhythm
    is_here: bool
    """True if this machine alone is at fault when it cannot be read."""

    async def read(self) -> bytes:
        """The set's bytes. Raises UnusableKeys."""


def source_of(settings: Settings) -> Source:
    """The place that NEXUS_JWT_JWKS, which is set, names."""
    place = settings.jwt_jwks or ""
    if "://" in place:
        return KeyAddress(place, max_age_seconds=settings.jwt_jwks_max_age_seconds)
    return KeyFile(Path(place).expanduser())


class KeyFile:
    """A file. It is read when its time, length or number has changed."""

    rhythm = FILE_RHYTHM
    is_here = True
    _SETTLED_SECONDS: Final = 2.0
    """A file may change once more within this time without a change of its time, which is rounded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._content = b""

    async def read(self) -> bytes:
        """The file's bytes. Raises UnusableKeys."""
        try:
            return await asyncio.to_thread(self._read)
        except (OSError, ValueError) as error:
            if isinstance(error, UnusableKeys):
                raise
            raise UnusableKeys(f"cannot be read ({error_name(error)})") from None

    def _read(self) -> bytes:
        with os.fdopen(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise UnusableKeys("is no file")
            seen = (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)
            if seen == self._seen:
                return self._content
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise UnusableKeys(f"has more than {BYTES_MAX} bytes")
        self._seen = seen if time.time() - state.st_mtime > self._SETTLED_SECONDS else ()
        self._content = content
        return content


class KeyAddress:
    """An address."""

    is_here = False

    def __init__(self, url: str, *, max_age_seconds: float) -> None:
        """`url` is as the settings admit it."""
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._may = is_loopback if is_loopback(self._host) else is_public
        self._tls: ssl.SSLContext | None = None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._request = (
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/jwk-set+json, application/json\r\n"
            "Accept-Encoding: identity\r\nUser-Agent: nexus-graph\r\nConnection: close\r\n\r\n"
        ).encode("ascii")
        self.rhythm = ADDRESS_RHYTHM._replace(
            refresh=min(ADDRESS_RHYTHM.refresh, max_age_seconds / 2),
            retry=min(ADDRESS_RHYTHM.retry, max_age_seconds / 4),
        )

    async def read(self) -> bytes:
        """The answer's body. Raises UnusableKeys."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._get()
        except TimeoutError:
            raise UnusableKeys(f"does not answer within {READ_SECONDS:g} s") from None
        except httptools.HttpParserError:
            raise UnusableKeys("answers with something other than HTTP") from None
        except OSError as error:  # TLS, too; the error's text may quote a certificate
            raise UnusableKeys(f"does not answer ({error_name(error)})") from None

    async def _get(self) -> bytes:
        reader, writer = await self._connect()
        try:
            writer.write(self._request)
            answer, received = _Answer(), 0
            parser = httptools.HttpResponseParser(answer)
            while not answer.complete and (piece := await reader.read(16 * 1024)):
                received += len(piece)
                if received > BYTES_MAX:
                    raise UnusableKeys(f"answers with more than {BYTES_MAX} bytes")
                parser.feed_data(piece)
            status = parser.get_status_code() if answer.begun else 0
        finally:
            writer.transport.abort()  # a server that does not end TLS would keep us waiting
        if status != 200:  # an answer that ends early is no whole JSON either
            raise UnusableKeys(f"answers with status {status}" if status else "answers with nothing")
        return b"".join(answer.pieces)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to an address that was checked. Raises UnusableKeys, OSError, TimeoutError."""
        if self._secure and self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        if not all(map(self._may, addresses)):
            raise UnusableKeys("leads to an address that is not public: put the keys in a file")
        failure: OSError = TimeoutError()
        for address in addresses[:ADDRESSES_MAX]:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(
                        address, self._port, ssl=self._tls, server_hostname=self._host if self._tls else None
                    )
            except OSError as error:  # TimeoutError is one
                failure = error
        raise failure


class _Answer:
    """What httptools reads."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.begun = self.complete = False

    def on_headers_complete(self) -> None:
        self.begun = True

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        self.complete = True
