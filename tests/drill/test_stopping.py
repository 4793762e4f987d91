"""A server that is stopped under load loses no request: every one that a client could send is answered."""

import asyncio
import signal
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nexus_graph.config import Settings
from tests.integration.test_direct import ADA, TWICE, answered, posted
from tests.stage.running import ServeProcess

pytestmark = pytest.mark.drill

ROUNDS = 25
CLIENTS = 24
REQUESTS = (posted(ADA), posted(ADA, *TWICE), b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")


async def ask_until_refused(host: str, port: int, number: int, told: Counter[str]) -> None:
    """Ask again and again, on one connection while the server keeps it; two of three, on a new one each time. Count how
    each request ended.
    """
    request, keeps = REQUESTS[number % len(REQUESTS)], number % 2 == 0
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            return
        except OSError as error:
            told[f"connecting: {type(error).__name__}"] += 1
            continue
        try:
            ends = False
            while not ends:
                writer.write(request)
                head, _ = await answered(reader)
                told[head[9:12].decode()] += 1
                ends = not keeps or b"\r\nconnection: close\r\n" in head
        except (OSError, EOFError) as error:
            told[type(error).__name__] += 1
        finally:
            writer.close()


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_request_is_lost_as_the_server_stops(settings: Settings, project: Path, workers: int) -> None:
    told: Counter[str] = Counter()
    for _ in range(ROUNDS):
        running = await ServeProcess.start(settings, project, "--workers", str(workers))
        for _ in range(workers):
            url = urlsplit(await running.url())
        assert url.hostname is not None
        assert url.port is not None
        before = sum(told.values())
        clients = [
            asyncio.create_task(ask_until_refused(url.hostname, url.port, number, told)) for number in range(CLIENTS)
        ]
        while sum(told.values()) < before + 10 * CLIENTS:  # noqa: ASYNC110 - the clients only count
            await asyncio.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await running.process.wait() == 0
            await asyncio.gather(*clients)
    print(f"{workers} workers, {ROUNDS} stops under load: {dict(told)}")
    assert set(told) == {"200"}
