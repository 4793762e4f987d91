"""A Redis of a test's own, to stop, kill and start again."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pydantic import SecretStr

from nexus_graph.config import Settings
from nexus_graph.devstack.valkey import _program


class OwnRedis:
    """A Valkey server on loopback, without a password, that keeps nothing on disk."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._process: Process | None = None

    def reached(self, settings: Settings) -> Settings:
        """The settings with this server."""
        return settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{self.port}/0")})

    async def start(self) -> None:
        """Return when it takes connections."""
        command = [str(_program()), "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
        assert self._process.stdout is not None
        while b"Ready to accept connections" not in await self._process.stdout.readline():
            assert self._process.returncode is None

    async def kill(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):  # a test has killed it
            self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        """It takes what it is asked and answers nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@asynccontextmanager
async def own_redis(port: int) -> AsyncIterator[OwnRedis]:
    server = OwnRedis(port)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
