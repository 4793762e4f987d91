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


class _Server(Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def running_api(settings: Settings) -> AsyncIterator[ApiServer]:
    """A real server on a free port of the loopback address."""
    listener = listen("127.0.0.1", 0, backlog=settings.accept_backlog)
    server = _Server(server_config(create_app(settings), settings))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    listening = asyncio.create_task(server.listening.wait())
    await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if serving.done():
        serving.result()
        raise RuntimeError("the API stopped while it started")
    try:
        yield ApiServer(*listener.getsockname())
    finally:
        server.should_exit = True
        await serving
        listener.close()


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
