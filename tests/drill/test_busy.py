"""Thousands of busy clients: operators who connect are answered at once, and nobody waits without end."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pytest

from nexus_graph.app import allow_descriptors
from nexus_graph.config import Settings
from tests.integration.test_direct import GRAPHQL, answered, posted
from tests.running import ServeProcess

pytestmark = pytest.mark.drill

CLIENTS = 2_000
SECONDS = 15.0
LIVEZ_MAX_SECONDS = 1.0
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


async def ask(host: str, port: int, number: int, until: float, told: Counter[str]) -> None:
    """Ask on one connection, again and again; come again where refused."""
    person = {"email": f"p{number % 500}@example.com"}
    request = posted({**GRAPHQL[0], "variables": person}, path="/graphql") if number % 2 else posted(person)
    while monotonic() < until:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            ends = False
            while not ends and monotonic() < until:
                writer.write(request)
                head, _ = await answered(reader)
                told[head[9:12].decode()] += 1
                ends = b"\r\nconnection: close\r\n" in head
                if head[9:12] == b"503":
                    assert b"\r\nretry-after: " in head
                    await asyncio.sleep(1)
        finally:
            writer.close()


async def test_operators_are_answered_beside_busy_clients(settings: Settings, project: Path) -> None:
    allow_descriptors()
    running = await ServeProcess.start(settings, project)
    url = urlsplit(await running.url())
    assert url.hostname is not None
    assert url.port is not None
    told: Counter[str] = Counter()
    until = monotonic() + SECONDS
    asking = [asyncio.create_task(ask(url.hostname, url.port, number, until, told)) for number in range(CLIENTS)]
    while told.total() < CLIENTS:  # noqa: ASYNC110 - all are there; the clients only count
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
    await asyncio.gather(*asking)
    running.process.terminate()
    assert await running.process.wait() == 0
    seconds = sorted(map(float, printed.split()))
    p99 = seconds[int(0.99 * len(seconds))]
    print(
        f"{CLIENTS} clients, {SECONDS:g} s: {dict(told)}; /livez on new connections {len(seconds)} times, "
        f"p50 {1000 * seconds[len(seconds) // 2]:.0f} ms, p99 {1000 * p99:.0f} ms"
    )
    assert set(told) <= {"200", "503"}
    assert told["200"] > 0.8 * told.total()
    assert p99 < LIVEZ_MAX_SECONDS
