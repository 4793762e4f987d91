"""Two worker processes behind one address, while Redis is stopped: revocations, new keys and limits hold in both."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import psutil

from nexus_graph.config import Settings
from nexus_graph.door.issuing import revoke
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Connection
from tests.stage.callers import key_for
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.redis import OwnRedis
from tests.stage.running import ServeProcess

EFFECTIVE_SECONDS = 1.0
"""A change of a key works in every process after so long, from its commit on."""
CONNECTIONS = 16
LIMIT = 10
BODY = b'{"email": "ada@example.com"}'


class Line:
    """A kept connection, which one of the processes answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.port: int = writer.get_extra_info("sockname")[1]

    async def status(self, key: str) -> int:
        """Of the answer to an identify with this key."""
        head = (
            f"POST /identify HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        )
        self._writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self._reader.readexactly(int(length.partition(b":")[2]))
        return int(answer.split(b" ", 2)[1])

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def two_workers(settings: Settings, project: Path) -> AsyncIterator[dict[int, list[Line]]]:
    """Open connections by the process that accepted them: some of each."""
    rates = json.dumps({"steward": f"{LIMIT}/hour", "service": "off"})
    serving = await ServeProcess.start(
        settings, project, "--workers", "2", NEXUS_AUTH="on", NEXUS_RATE_LIMIT="off", NEXUS_RATE_LIMITS=rates
    )
    port = int(urlsplit(await serving.url()).port or 0)
    await serving.url()  # the second worker
    lines: list[Line] = []
    async with serving.ending(), asyncio.timeout(2 * PATIENCE_SECONDS):
        owners: dict[int, list[Line]] = {}
        while len(owners) < 2 or len(lines) < CONNECTIONS:
            lines.append(Line(*await asyncio.open_connection("127.0.0.1", port)))
            owners = _owners(serving.process.pid, lines)
        try:
            yield owners
        finally:
            for line in lines:
                line.close()


def _owners(parent: int, lines: list[Line]) -> dict[int, list[Line]]:
    by_port = {line.port: line for line in lines}
    found: dict[int, list[Line]] = {}
    for worker in psutil.Process(parent).children():
        for connection in worker.net_connections("tcp"):
            line = by_port.get(getattr(connection.raddr, "port", 0))
            if line is not None:
                found.setdefault(worker.pid, []).append(line)
    return found


async def test_keys_and_limits_hold_in_both_while_redis_is_stopped(
    settings: Settings, project: Path, owner: Connection, own: OwnRedis
) -> None:
    revoked, lasting = [await key_for(settings, Role.SERVICE) for _ in range(2)]
    shared, apart = [await key_for(settings, Role.STEWARD) for _ in range(2)]
    async with two_workers(own.reached(settings), project) as owners:
        lines = [line for of_one in owners.values() for line in of_one]

        async def statuses(key: str) -> set[int]:
            return set(await asyncio.gather(*(line.status(key) for line in lines)))

        async def until(status: int, key: str) -> None:
            """Return once all lines say so, in time from now on."""
            since = monotonic()
            while (said := await statuses(key)) != {status}:
                assert said <= {200, 401}
                assert monotonic() - since < EFFECTIVE_SECONDS

        assert await statuses(revoked) == await statuses(lasting) == {200}
        together = [await line.status(shared) for line in _in_turn(owners, 3 * LIMIT)]
        assert together == [200] * LIMIT + [429] * 2 * LIMIT, "both count in Redis"

        await own.kill()
        assert await statuses(lasting) == {200}
        for of_one in owners.values():
            alone = [await line.status(apart) for line in (of_one * 2 * LIMIT)[: 2 * LIMIT]]
            assert alone == [200] * LIMIT + [429] * LIMIT, "each counts for itself"
        assert await statuses(shared) == {429}, "what Redis said last still holds"

        await revoke(owner, revoked[4:16])
        await until(401, revoked)
        assert [await statuses(revoked) for _ in range(5)] == [{401}] * 5, "no process forgets"
        await until(200, await key_for(settings, Role.SERVICE))
        assert await statuses(lasting) == {200}


def _in_turn(owners: dict[int, list[Line]], count: int) -> list[Line]:
    """So many lines, of one process and the other in turn."""
    first, second = owners.values()
    return [(first if number % 2 else second)[0] for number in range(count)]
