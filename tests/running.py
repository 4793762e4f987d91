"""The API and the relay, running inside the test's own process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn

from nexus_graph.app import Server, create_app, listen, server_config
from nexus_graph.config import Settings
from nexus_graph.relay import Relay


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
    listener = listen("127.0.0.1", 0, backlog=settings.accept_backlog)
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
async def running_relay(settings: Settings) -> AsyncIterator[Relay]:
    """A relay at work."""
    relay = Relay(settings)
    working = asyncio.create_task(relay.work())
    try:
        yield relay
    finally:
        relay.stop()
        await working
