"""The API's certificate: read at start, and again when its files change, for the connections that come then.

A connection keeps the certificate that it began with, so none is dropped. TLS 1.2 with forward secrecy and
authenticated encryption, and TLS 1.3; HTTP/1.1 by ALPN. Nothing is asked of clients' certificates.
"""

import asyncio
import ssl
import time
from pathlib import Path
from typing import Final, NoReturn

from nexus_graph.telemetry import CERTIFICATE_READS, error_name, log

LOOK_SECONDS: Final = 1.0
"""How often the files are looked at; a look costs microseconds, in a thread of its own."""

_SETTLED_SECONDS: Final = 2.0
"""A file may change once more within this time without a change of its time, which is rounded."""

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2. All of TLS 1.3 are fit."""

_LOG = log("tls")


class UnusableCertificate(Exception):
    """The files of the certificate cannot be used: why, as a sentence without their content."""


class Certificate:
    """A certificate and its key, in files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Reads both. Raises UnusableCertificate."""
        self._paths = certificate.expanduser(), key.expanduser()
        self._seen: tuple[object, ...] = ()
        self._is_failing = False
        try:
            self._state = self._look()
            self.context = self._read()
        except OSError as error:
            raise UnusableCertificate(_sentence(error)) from None

    async def keep(self) -> NoReturn:
        """Read the files again whenever they change. What cannot be used, such as a certificate whose key has not come
        yet, leaves the last good pair in place.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Read the files again if they have changed."""
        try:
            state = await asyncio.to_thread(self._look)
            if state == self._seen:
                return
            context = await asyncio.to_thread(self._read)
        except OSError as error:
            CERTIFICATE_READS.labels("failed").inc()
            if not self._is_failing:
                self._is_failing = True
                _LOG.warning("certificate_not_read", reason=_sentence(error))
            return
        is_new = state != self._state
        self.context, self._state, self._is_failing = context, state, False
        if all(time.time_ns() - changed > _SETTLED_SECONDS * 1e9 for *_, changed, _size in state):
            self._seen = state
        if is_new:
            CERTIFICATE_READS.labels("read").inc()
            _LOG.info("certificate_read_again")

    def _look(self) -> tuple[tuple[int, int, int, int], ...]:
        """Device, number, time of the last change (ns) and size of each file."""
        states = [path.stat() for path in self._paths]
        return tuple((state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size) for state in states)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._paths, password="")  # else OpenSSL would ask for one at the terminal
        return context


def _sentence(error: OSError) -> str:
    """Why the pair cannot be used."""
    if isinstance(error, ssl.SSLError):
        reason = error.reason or "no PEM file of a certificate and an unencrypted key"
        return f"the certificate of NEXUS_TLS_CERT and the key of NEXUS_TLS_KEY cannot be used: {reason}"
    place = f" {error.filename}" if error.filename else ""
    return f"NEXUS_TLS_CERT or NEXUS_TLS_KEY names a file that cannot be read:{place} ({error_name(error)})"
