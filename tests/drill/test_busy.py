"""Thousands of busy clients: operators who connect are answered at once, and nobody waits without end."""

import asyncio
import resource
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pytest

from nexus_graph.app import allow_descriptors
from nexus_graph.config import Settings
from tests.integration.test_direct import GRAPHQL, answered, posted
from tests.stage.running import ServeProcess

pytestmark = pytest.mark.drill

SECONDS = 15.0
LIVEZ_MAX_SECONDS = 1.0
ANSWER_MAX_SECONDS = 30.0
"""No client waits for its last answer for longer, once all have stopped to ask again."""
DESCRIPTORS_KEPT = 200
"""What this process has open besides its clients' connections."""
PROBE = """
import http.client, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
until = time.monotonic() + seconds
while time.monotonic() < until:
    began = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request("GET", "/livez")
    assert connection.getresponse().status == 200
    connection.close()
    print(time.monotonic() - began)
    time.sleep(0.02)
"""
"""An operator, in a process of its own: the clients' own loop is busy."""


async def ask(host: str, port: int, number: int, until: float, heard: "Heard", *, keeps: bool) -> None:
    """Ask again and again, on one connection if it `keeps` it and the server does; come again where refused."""
    person = {"email": f"p{number % 500}@example.com"}
    request = posted({**GRAPHQL[0], "variables": person}, path="/graphql") if number % 2 else posted(person)
    while monotonic() < until:
        began = monotonic()
        reader, writer = await asyncio.open_connection(host, port)
        try:
            ends = False
            while not ends and monotonic() < until:
                writer.write(request)
                head, _ = await answered(reader)
                heard.statuses[head[9:12].decode()] += 1
                heard.seconds.append(monotonic() - began)
                ends = not keeps or b"\r\nconnection: close\r\n" in head
                if head[9:12] == b"503":
                    assert b"\r\nretry-after: " in head
                    await asyncio.sleep(1)
                began = monotonic()
        finally:
            writer.close()


@dataclass
class Heard:
    """What clients were answered, and how long each had waited, from connecting if it connected for this."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


@pytest.mark.parametrize(("clients", "keeps"), [(2_000, True), (4_000, False)], ids=["kept", "new connections"])
async def test_operators_are_answered_beside_busy_clients(
    settings: Settings, project: Path, clients: int, *, keeps: bool
) -> None:
    allow_descriptors()
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - DESCRIPTORS_KEPT
    if room < clients:
        print(f"this process may not have {clients} connections open, and drills with {room}")
        clients = room
    running = await ServeProcess.start(settings, project)
    url = urlsplit(await running.url())
    assert url.hostname is not None
    assert url.port is not None
    assert running.process.stderr is not None
    logging = asyncio.create_task(running.process.stderr.read())  # a log that is not read would stop the server
    heard = Heard()
    until = monotonic() + SECONDS
    asking = [
        asyncio.create_task(ask(url.hostname, url.port, number, until, heard, keeps=keeps)) for number in range(clients)
    ]
    while len(heard.seconds) < clients:  # noqa: ASYNC110 - all are there; the clients only count
        await asyncio.sleep(0.1)
    probe = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROBE,
        url.hostname,
        str(url.port),
        str(until - monotonic()),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await probe.communicate()
    assert probe.returncode == 0
    async with asyncio.timeout(ANSWER_MAX_SECONDS):
        await asyncio.gather(*asking)
    running.process.terminate()
    assert await running.process.wait() == 0
    lines = (await logging).splitlines()
    seconds = sorted(map(float, printed.split()))
    p99 = _p99(seconds)
    told = heard.statuses
    print(
        f"{clients} clients {'on kept' if keeps else 'each time on new'} connections, {SECONDS:g} s: {dict(told)}, "
        f"p99 {_p99(sorted(heard.seconds)):.1f} s; /livez on new connections {len(seconds)} times, "
        f"p50 {1000 * seconds[len(seconds) // 2]:.0f} ms, p99 {1000 * p99:.0f} ms; {len(lines)} lines logged"
    )
    assert set(told) <= {"200", "503"}
    if keeps:
        assert told["200"] > 0.8 * told.total()
    assert p99 < LIVEZ_MAX_SECONDS


def _p99(ordered: list[float]) -> float:
    return ordered[int(0.99 * len(ordered))]
