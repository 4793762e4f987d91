"""A throw-away certificate authority, and TLS in front of a server that speaks none."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import trustme

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""With this a client of PostgreSQL asks whether the server speaks TLS."""


class Authority:
    """It issues certificates, as files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.file))
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"

    def issue(self, *names: str) -> tuple[bytes, bytes]:
        """A new certificate for these names, and its key."""
        issued = self._authority.issue_cert(*names)
        return b"".join(part.bytes() for part in issued.cert_chain_pems), issued.private_key_pem.bytes()

    def write(self, *names: str) -> None:
        """Put a new certificate and its key in place."""
        certificate, key = self.issue(*names)
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)

    def trusting(self) -> ssl.SSLContext:
        """A client that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.file))


@asynccontextmanager
async def encrypted(url: str, authority: Authority, *names: str) -> AsyncIterator[int]:
    """The port of a proxy that speaks TLS, by a certificate for these names, with the server of this URL behind it."""
    target = urlsplit(url)
    certificate, key = authority.issue(*names)
    own, own_key = authority.file.with_name("proxy.pem"), authority.file.with_name("proxy.key")
    own.write_bytes(certificate)
    own_key.write_bytes(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own, own_key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if target.scheme.startswith("postgres"):
                assert await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST
                writer.write(b"S")
                await writer.drain()
            await writer.start_tls(context)
        except OSError:
            writer.close()  # the client refuses the certificate
            return
        far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
