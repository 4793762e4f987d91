"""What the tests of relay, projection, verify and rebuild share: writes to the record, and looks at the whole graph."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from neo4j import AsyncDriver

from nexus_graph.config import Settings
from nexus_graph.graph.projection import project
from nexus_graph.graph.states import FamilyState, read_states
from nexus_graph.graph.verify import Finding, verify
from nexus_graph.store.database import Pool
from nexus_graph.store.lease import RELAY_KEY
from tests.stage.relays import StagedRelay

PATIENCE_SECONDS = 30

Pair = tuple[str | None, str | None]


async def identify(pool: Pool, *pairs: Pair) -> list[int]:
    """The family ids that the record answers, in order."""
    emails, phones = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    rows = await pool.fetch(
        "SELECT family_id FROM identify_together($1::text[], $2::text[], $3::uuid[], 1000, 3)",
        emails,
        phones,
        [None] * len(pairs),
    )
    return [row["family_id"] for row in rows]


async def soft_delete(pool: Pool, contact_id: int) -> None:
    await pool.execute("UPDATE contacts SET deleted_at = now() WHERE id = $1", contact_id)


async def outbox_rows(pool: Pool) -> list[int]:
    return [row["seq"] for row in await pool.fetch("SELECT seq FROM outbox ORDER BY seq")]


async def changed(pool: Pool) -> list[FamilyState]:
    """The states that a relay would now read; the outbox is empty afterwards."""
    rows = await pool.fetch("DELETE FROM outbox RETURNING family_id")
    return await read_states(pool, sorted({row["family_id"] for row in rows}))


async def catch_up(pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
    """Write all changes to the graph, as a relay would."""
    await project(driver, await changed(pool), settings)


async def findings(pool: Pool, driver: AsyncDriver) -> list[Finding]:
    return (await verify(pool, driver)).findings


async def picture(driver: AsyncDriver) -> tuple[list[str], list[str]]:
    """Everything in the graph, comparable."""
    nodes = await driver.execute_query("MATCH (n) RETURN labels(n) AS labels, properties(n) AS properties")
    edges = await driver.execute_query(
        "MATCH (a)-[r]->(b) RETURN coalesce(a.id, a.value) AS a, type(r) AS type, properties(r) AS properties, "
        "coalesce(b.id, b.value) AS b"
    )
    return _sorted(nodes.records), _sorted(edges.records)


async def shown(driver: AsyncDriver) -> tuple[list[str], list[str]]:
    """Everything in the graph but the versions of contacts and ties: those tell when each was last written."""
    nodes = await driver.execute_query(
        "MATCH (n) RETURN labels(n) AS labels, "
        "CASE WHEN n:Contact THEN n {.*, version: null} ELSE properties(n) END AS properties"
    )
    edges = await driver.execute_query(
        "MATCH (a)-[r]->(b) RETURN coalesce(a.id, a.value) AS a, type(r) AS type, r {.*, version: null} AS properties, "
        "coalesce(b.id, b.value) AS b"
    )
    return _sorted(nodes.records), _sorted(edges.records)


def _sorted(records: Sequence[Any]) -> list[str]:
    return sorted(
        repr([sorted(value.items()) if isinstance(value, dict) else value for value in record.values()])
        for record in records
    )


@asynccontextmanager
async def relaying(
    settings: Settings,
    *,
    on_projected: Callable[[], Awaitable[None]] | None = None,
    key: int = RELAY_KEY,
    patience_seconds: float = PATIENCE_SECONDS,
) -> AsyncIterator[StagedRelay]:
    """A relay at work."""
    relay = StagedRelay(settings, on_projected=on_projected, key=key)
    working = asyncio.create_task(relay.work())
    try:
        async with asyncio.timeout(patience_seconds):
            yield relay
    finally:
        relay.stop()
        await working


class Gate:
    """A TCP proxy in front of a server: closed, it cuts what is open and refuses what comes; stalled, it takes every
    connection and every byte, and passes nothing on; slow, it passes everything on late.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.refused = asyncio.Event()
        """Set when a client came to the closed gate."""
        self._open = True
        self.delay_seconds = 0.0
        """How much later than it came each piece is passed on, either way."""
        self._passing = asyncio.Event()
        self._passing.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.shut()
        self.flow()
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def shut(self) -> None:
        self._open = False
        self.refused.clear()
        for writer in self._writers:
            writer.transport.abort()

    def open(self) -> None:
        self._open = True

    def stall(self) -> None:
        self._passing.clear()

    def flow(self) -> None:
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            self.refused.set()
            writer.transport.abort()
            return
        await self._passing.wait()
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, server_writer}
        await asyncio.gather(self._pump(reader, server_writer), self._pump(server_reader, writer))
        self._writers -= {writer, server_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._passing.wait()
                await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def gate_before_graph(settings: Settings) -> AsyncIterator[tuple[Gate, Settings]]:
    """A gate before Neo4j, and settings that lead through it."""
    host, _, port = settings.neo4j_uri.removeprefix("bolt://").partition(":")
    gate = Gate(host, int(port))
    await gate.start()
    try:
        yield gate, settings.model_copy(update={"neo4j_uri": f"bolt://127.0.0.1:{gate.port}"})
    finally:
        await gate.stop()
