"""The API and the relay, running inside the test's own process, or the API as a process of its own."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from nexus_graph.api.http.listening import BACKLOG
from nexus_graph.app import Server, create_app, listen, server_config
from nexus_graph.config import Settings
from tests.stage.relays import StagedRelay

both_ways = pytest.mark.parametrize("carrier", ["on", "off"], ids=["direct", "asgi"], indirect=True)
"""Marks tests of what the API answers: by the direct way and by ASGI alone."""


@dataclass(frozen=True)
class ApiServer:
    """Where a running API listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


class RunningServer(Server):
    """Says when it listens, and stops when it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.serving: asyncio.Task[None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def stop(self) -> None:
        """Return once it has stopped."""
        self.should_exit = True
        await self.serving


@asynccontextmanager
async def running_api(settings: Settings) -> AsyncIterator[ApiServer]:
    """A real server on a free port of the loopback address."""
    async with stoppable_api(settings) as (server, _):
        yield server


@asynccontextmanager
async def stoppable_api(settings: Settings) -> AsyncIterator[tuple[ApiServer, RunningServer]]:
    """That server, and what stops it."""
    listener = listen("127.0.0.1", 0, backlog=BACKLOG)
    address = ApiServer(*listener.getsockname())
    server = RunningServer(server_config(create_app(settings), settings))
    server.serving = asyncio.create_task(server.serve(sockets=[listener]))
    listening = asyncio.create_task(server.listening.wait())
    await asyncio.wait({server.serving, listening}, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if server.serving.done():
        server.serving.result()
        raise RuntimeError("the API stopped while it started")
    try:
        yield address, server
    finally:
        await server.stop()


@asynccontextmanager
async def running_relay(settings: Settings) -> AsyncIterator[StagedRelay]:
    """A relay at work."""
    relay = StagedRelay(settings)
    working = asyncio.create_task(relay.work())
    try:
        yield relay
    finally:
        relay.stop()
        await working


class ServeProcess:
    """`nexus-graph serve` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(
        cls, settings: Settings, project: Path, *options: str, descriptors: str = "", **more: str
    ) -> "ServeProcess":
        """`descriptors`: its limits on open files, the soft and the hard one. `more`: variables of its environment."""
        soft, hard = descriptors.split() if descriptors else ("$(ulimit -Sn)", "$(ulimit -Hn)")
        limited = ("sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "sh")
        environment = {
            **os.environ,
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "NEO4J_URI": settings.neo4j_uri,
            "NEO4J_USER": settings.neo4j_user,
            "NEO4J_PASSWORD": settings.neo4j_password.get_secret_value(),
            **more,
        }
        return cls(
            await asyncio.create_subprocess_exec(
                *limited, sys.executable, "-m", "nexus_graph", "serve", "--port", "0", *options,
                cwd=project, env=environment, stderr=asyncio.subprocess.PIPE,
            )
        )  # fmt: skip

    async def url(self) -> str:
        """Where it serves, once it does."""
        event = await self.event("serving")
        return f"http://{event['host']}:{event['port']}"

    @asynccontextmanager
    async def ending(self) -> AsyncIterator[list[str]]:
        """The lines of its log from now on, while the block lasts; then it is told to stop, and has stopped."""
        logged: list[str] = []

        async def listen() -> None:
            assert self.process.stderr is not None
            async for line in self.process.stderr:
                logged.append(line.decode())  # noqa: PERF401 - one by one, as they come

        listening = asyncio.create_task(listen())
        try:
            yield logged
        finally:
            if self.process.returncode is None:
                self.process.terminate()
            await self.process.wait()
            await listening

    async def event(self, name: str) -> dict[str, Any]:
        """The next line of its log of this name."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while line := await self.process.stderr.readline():
                event: dict[str, Any] = json.loads(line)
                if event["event"] == name:
                    return event
        raise AssertionError(f"the process ended without saying {name}")
