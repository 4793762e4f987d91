"""The graph limit: one query a request straight from Neo4j's driver, with no server of ours between.

It asks for the families that the arm `family` asks for, by the statement that the API uses, one a query, from as many
tasks as there are clients. It runs in a process of its own, a worker of a ProcessPoolExecutor.
"""

import asyncio
import random
from array import array
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import uvloop

from bench.load.generator import become_worker
from bench.load.loops import LAST_ANSWERS_SECONDS, WRONG_SHOWN_MAX, Load
from nexus_graph.config import Settings
from nexus_graph.graph.driver import ask, open_driver

QUERY_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Graph:
    """Where the graph is, and what is asked of it."""

    uri: str
    user: str
    password: str
    contacts: "array[int]"
    """Whose families are asked for."""
    family_contacts: int
    tasks: int
    seed: int


class Straight:
    """One measurement."""

    def __init__(self, graph: Graph, *, warmup_seconds: float, seconds: float) -> None:
        self._graph = graph
        self._seconds = seconds
        self._opens = perf_counter() + warmup_seconds
        self._closes = self._opens + seconds
        self._random = random.Random(graph.seed)  # noqa: S311 - it guards nothing
        self._latencies = array("d")
        self._requests = 0
        self._wrong: list[str] = []

    async def run(self) -> Load:
        """Raises what the driver raises; TimeoutError if the last answers do not come."""
        settings = Settings(
            neo4j_uri=self._graph.uri,
            neo4j_user=self._graph.user,
            neo4j_password=self._graph.password,
            graph_connections=self._graph.tasks,
        )
        async with (
            asyncio.timeout_at(
                asyncio.get_running_loop().time() + self._closes - perf_counter() + LAST_ANSWERS_SECONDS
            ),
            open_driver(settings) as driver,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(self._graph.tasks):
                tasks.create_task(self._ask_on(driver))
        shown = self._wrong[:WRONG_SHOWN_MAX]
        return Load(self._seconds, self._latencies, self._requests, len(self._wrong), shown, cpu_seconds=None)

    async def _ask_on(self, driver: Any) -> None:
        contacts, closes = self._graph.contacts, self._closes
        while (sent := perf_counter()) < closes:
            contact = contacts[int(self._random.random() * len(contacts))]
            asked: dict[str, Any] = {"contacts": [contact], "emails": [], "phones": []}
            (rows,) = await ask(driver, "families", asked, timeout_seconds=QUERY_TIMEOUT_SECONDS)
            now = perf_counter()
            self._requests += 1
            if len(rows) != 1 or len(rows[0][-1]) != self._graph.family_contacts:
                self._wrong.append(f"family of contact {contact}: {rows}")
            if self._opens <= now < closes:
                self._latencies.append(now - sent)


_graph: Graph | None = None


def start(graph: Graph) -> None:
    """Make this process the one that asks."""
    global _graph  # noqa: PLW0603 - a worker's state outlives its calls only here
    become_worker()
    _graph = graph


def measure(warmup_seconds: float, seconds: float) -> Load:
    """Run once in this process."""
    assert _graph is not None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(_graph, warmup_seconds, seconds))


async def _measure(graph: Graph, warmup_seconds: float, seconds: float) -> Load:
    return await Straight(graph, warmup_seconds=warmup_seconds, seconds=seconds).run()
