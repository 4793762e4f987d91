"""The way from the API to a server: it can be cut, mended, and made a black hole that takes bytes and gives none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from nexus_graph.config import Settings


class Wire:
    """A TCP proxy."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Condition()
        self._passing = asyncio.Event()
        self._passing.set()
        self.swallowed = asyncio.Event()
        """Set once the black hole has taken something."""
        self.port = 0

    async def open_connections(self, count: int) -> None:
        """Return once there are so many."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._writers) == 2 * count)

    async def mend(self) -> None:
        """Let connections through, on the same port as before."""
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break what is connected, refuse what comes."""
        assert self._server is not None
        self._server.close()
        self._passing.set()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    def hang(self) -> None:
        """From now on accept everything and pass nothing on."""
        self._passing.clear()
        self.swallowed.clear()

    def flow(self) -> None:
        """Pass on what was held back, and what comes."""
        self._passing.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._writers -= {writer, far_writer}
        async with self._changed:
            self._changed.notify_all()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                if not self._passing.is_set():
                    self.swallowed.set()
                    await self._passing.wait()
                writer.write(chunk)
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[tuple[Settings, Wire]]:
    """Settings whose record is at the far end of a wire."""
    url = urlsplit(settings.database_url.get_secret_value())
    assert url.hostname is not None
    assert url.port is not None
    wire = Wire(url.hostname, url.port)
    await wire.mend()
    credentials, at, _ = url.netloc.rpartition("@")
    moved = url._replace(netloc=f"{credentials}{at}127.0.0.1:{wire.port}").geturl()
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("nexus_graph.api.ops.REMEMBERED_SECONDS", 0.0)
            yield settings.model_copy(update={"database_url": SecretStr(moved)}), wire
    finally:
        await wire.cut()
