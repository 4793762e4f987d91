"""Everything that runs for the benchmark: the stack, other servers, load generator and gauges; ready to be measured."""

import asyncio
import json
import multiprocessing
import os
import statistics
import sys
from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
from neo4j import AsyncDriver, AsyncGraphDatabase, NotificationMinimumSeverity

from bench import express, record
from bench.gauges import LagWatch, MemoryWatch, Processors
from bench.load import driver as graph_load
from bench.load import generator
from bench.load.arms import Arm, FamilyQuery
from bench.load.client import Address, HttpClient
from bench.load.generator import GUARDED, Site
from bench.load.loops import Load
from bench.load.pgbench import Pgbench
from bench.load.workload import preloaded
from bench.plan import GUARDED_ARMS, MIXED_ARMS, WRITING_ARMS, BenchError, Plan
from bench.report import DURABILITY
from bench.result import Measurement
from bench.servers import Server, another_api, logs, serving
from nexus_graph.devstack.stack import Stack, StackUrls
from nexus_graph.door.issuing import create
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Pool

FAMILIES: Final = 500
FAMILY_CONTACTS: Final = 10
FAMILIES_SIZED: Final = 20
"""This many answers are looked at to see how long one is."""
REHEARSAL_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 3.0
"""Before an arm, the relay gets this long to finish what the last one left."""
DRAIN_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 1.0
"""How often a long wait looks whether the processes still run."""
VERIFY_SECONDS: Final = 600.0
# No call of the benchmark is refused, and every call is counted.
GUARD: Final = {
    "NEXUS_AUTH": "on",
    "NEXUS_RATE_LIMITS": '{"service": "100000000/minute"}',
    "NEXUS_AUDIT": "on",
}
OTHER_APIS: Final[Mapping[str, Mapping[str, str]]] = {
    "family_alone": {"NEXUS_GRAPH_CONNECTIONS": "40"},
    "family_cached": {"NEXUS_CACHE": "both"},
}
OTHER_BOUNDS: Final[Mapping[str, Mapping[str, int]]] = {"family_alone": {"READS_MAX": 1, "READ_BATCHES": 32}}
"""With gathering off a reader's query goes out at once, as a server without it would send it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Others:
    """Servers next to the stack that some arms need, and why other arms cannot run."""

    servers: Mapping[str, Server]
    skipped: Mapping[str, str]
    databases: Mapping[str, str]
    """URLs of the original design's, by arm."""


@dataclass(frozen=True)
class _Workers:
    """Processes of our own that ask."""

    generator: ProcessPoolExecutor
    driver: ProcessPoolExecutor | None
    """For the arm `driver`."""

    def pids(self) -> dict[str, int]:
        """By what they are called in the report."""
        named = {"generator": self.generator, "driver": self.driver}
        return {name: executor.submit(os.getpid).result() for name, executor in named.items() if executor is not None}


@dataclass
class Running:
    """Everything that runs, ready to be measured."""

    plan: Plan
    stack: Stack
    pool: Pool
    driver: AsyncDriver
    watch: LagWatch
    pgbench: Pgbench
    site: Site
    workers: _Workers
    others: _Others
    say: Say
    processors: Processors = field(init=False)

    def __post_init__(self) -> None:
        """Raises BenchError if a process of the stack has died."""
        _check_running(self.stack)
        roots = {name: self.stack.process(name).pid for name in ("api", "postgres", "neo4j", "relay")}
        roots |= {name: server.pid for name, server in self.others.servers.items()}
        self.processors = Processors({**roots, **self.workers.pids()})

    @property
    def skipped(self) -> Mapping[str, str]:
        """Arms that cannot run here, and why."""
        return self.others.skipped

    async def measured(self, arm: str, number: int) -> Measurement:
        """One arm, in the round of this number."""
        await self.drained(timeout_seconds=SETTLE_SECONDS)
        mark = await record.event_mark(self.pool)
        self.watch.arm = arm if arm in WRITING_ARMS else None
        self.processors.in_use()
        async with MemoryWatch(self.stack.process("api").pid) as memory:
            loaded = await self.load(arm, number, seconds=self.plan.seconds)
        cores = self.processors.in_use()
        self.watch.arm = None
        outcomes: dict[str, float] = {}
        if arm in MIXED_ARMS:
            outcomes = await record.outcome_shares(self.pool, since=mark, requests=loaded.requests)
        measurement = Measurement.of(
            arm, number, loaded, cores=cores, outcomes=outcomes, api_memory_mb=memory.highest_mb
        )
        latency = measurement.latency_ms
        self.say(
            f"round {number + 1}  {arm:<14} {measurement.rate:>8,.0f} req/s   p50 {latency['p50_ms']:.2f} ms   "
            f"p99 {latency['p99_ms']:.2f} ms" + (f"   {loaded.wrong} WRONG" if loaded.wrong else "")
        )
        return measurement

    async def drained(self, *, timeout_seconds: float) -> bool:
        """Wait until no change waits for the graph; False if that takes too long. Raises BenchError, with the end of
        its log, if a process has died.
        """
        deadline = perf_counter() + timeout_seconds
        while True:
            _check_running(self.stack)
            if await self.watch.drained(timeout_seconds=min(timeout_seconds, LOOK_SECONDS)):
                return True
            if perf_counter() > deadline:
                return False

    async def rehearse(self) -> None:
        """Run every arm for a moment: a JVM is slow until it has done a thing often, and so are cold caches."""
        for arm in self.plan.arms:
            if arm not in self.skipped:
                await self.drained(timeout_seconds=SETTLE_SECONDS)
                await self.load(arm, self.plan.rounds, seconds=REHEARSAL_SECONDS)

    async def drive(
        self, arm: Arm[Any], address: Address, *, clients: int, seconds: float, warmup_seconds: float
    ) -> Load:
        """Run an arm that is none of the plan's."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self.workers.generator, generator.drive, arm, address, clients, warmup_seconds, seconds
        )

    async def original_faults(self) -> dict[str, int]:
        """What concurrency broke in the databases of the original design, by arm."""
        return {arm: await express.faults(url) for arm, url in self.others.databases.items()}

    async def drift(self) -> int:
        """What `nexus-graph verify` finds. Raises BenchError if it cannot say."""
        return await _drift(self.stack.urls)

    async def load(self, arm: str, number: int, *, seconds: float, warmup_seconds: float | None = None) -> Load:
        """Run one of the plan's arms; `number` is that of pgbench's run. Without a warm-up the plan's counts."""
        if warmup_seconds is None:
            warmup_seconds = self.plan.warmup_seconds
        if arm == "pgbench":
            return await self.pgbench.measure(number, warmup_seconds=warmup_seconds, seconds=seconds)
        loop = asyncio.get_running_loop()
        if arm == "driver":
            return await loop.run_in_executor(self.workers.driver, graph_load.measure, warmup_seconds, seconds)
        return await loop.run_in_executor(self.workers.generator, generator.measure, arm, warmup_seconds, seconds)


@asynccontextmanager
async def opened(plan: Plan, stack: Stack, say: Say) -> AsyncIterator[Running]:
    """Open everything that a measurement needs, on a stack that runs."""
    urls = stack.urls
    async with AsyncExitStack() as closing:
        pool = await closing.enter_async_context(asyncpg.create_pool(urls.database_url, min_size=3, max_size=3))
        if off := [name for name in DURABILITY if (await record.settings(pool))[name] != "on"]:
            raise BenchError(f"{', '.join(off)} is not on: only durable answers are measured")
        driver = AsyncGraphDatabase.driver(
            urls.neo4j_uri,
            auth=(urls.neo4j_user, urls.neo4j_password),
            notifications_min_severity=NotificationMinimumSeverity.OFF,  # an empty graph knows no names yet
        )
        await closing.enter_async_context(driver)
        families = await _populate(plan, pool, say)
        watch = await closing.enter_async_context(LagWatch(pool, driver))
        others = await _others(plan, stack, closing, say)
        key = await _key(urls) if GUARDED in others.servers else None
        site = await _site(plan, urls, others, families, key)
        bench = Running(
            plan,
            stack,
            pool=pool,
            driver=driver,
            watch=watch,
            pgbench=Pgbench(
                await record.connected(pool, urls.database_url),
                people=plan.people,
                clients=plan.clients,
                runs=plan.rounds + 1,
            ),
            site=site,
            workers=_workers(plan, urls, site, closing),
            others=others,
            say=say,
        )
        if not await bench.drained(timeout_seconds=DRAIN_SECONDS):
            raise BenchError("the relay did not bring the loaded people into the graph")
        say("the people are in the graph")
        yield bench


def api_address(urls: StackUrls) -> Address:
    """Where the API of a stack listens."""
    parts = urlsplit(urls.api)
    return Address(str(parts.hostname), int(parts.port or 0))


async def family_bytes(api: Address, families: Sequence[Sequence[int]], *, seed: int) -> int:
    """How long an answer about a family is: the median of some, whichever store gives it."""
    arm = FamilyQuery(families, host=api.authority, seed=seed)
    async with HttpClient(api.host, api.port) as client:
        return round(
            statistics.median(
                [len((await client.post("/graphql", arm.body(family[0]))).body) for family in families[:FAMILIES_SIZED]]
            )
        )


async def _populate(plan: Plan, pool: Pool, say: Say) -> list[list[int]]:
    """Load the people, and the families that are asked for; the contact ids of each of these."""
    say(f"loading {plan.people:,} people and {FAMILIES} families of {FAMILY_CONTACTS} contacts")
    await record.load(pool, preloaded(plan.people))
    families = await record.load_families(pool, count=FAMILIES, contacts=FAMILY_CONTACTS, seed=plan.seed)
    say("they are in the record")
    return families


async def _others(plan: Plan, stack: Stack, closing: AsyncExitStack, say: Say) -> _Others:
    """Start what the plan's arms need."""
    servers: dict[str, Server] = {}
    skipped: dict[str, str] = {}
    if "echo" in plan.arms:
        echo = serving(logs(stack), "echo", lambda port: [sys.executable, "-m", "bench.load.echo", str(port)])
        servers["echo"] = await closing.enter_async_context(echo)
    for arm, settings in OTHER_APIS.items():
        if arm in plan.arms:
            servers[arm] = await closing.enter_async_context(
                another_api(stack, arm, settings, bounds=OTHER_BOUNDS.get(arm))
            )
    if GUARDED_ARMS.intersection(plan.arms):
        servers[GUARDED] = await closing.enter_async_context(another_api(stack, GUARDED, GUARD))
    databases: dict[str, str] = {}
    for arm in (arm for arm in plan.arms if arm in express.ISOLATIONS):
        try:
            argv = await express.installed_in_thread()
        except express.CannotRun as error:
            skipped[arm] = str(error)
            say(f"{arm} is left out: {error}")
        else:
            databases[arm] = await express.prepare_database(arm, stack.urls.database_url, preloaded(plan.people))
            servers[arm] = await closing.enter_async_context(_original(stack, arm, argv, databases[arm]))
    return _Others(servers, skipped, databases)


def _original(stack: Stack, arm: str, argv: Sequence[str], database_url: str) -> AbstractAsyncContextManager[Server]:
    return serving(logs(stack), arm, lambda _port: argv, env=express.environment(arm, database_url))


async def _key(urls: StackUrls) -> str:
    """A new API key of a service."""
    connection = await asyncpg.connect(urls.database_url)
    made = await create(connection, "bench", [Role.SERVICE], None)
    await connection.close()
    return made.text


async def _site(
    plan: Plan, urls: StackUrls, others: _Others, families: Sequence[Sequence[int]], key: str | None
) -> Site:
    api = api_address(urls)
    return Site(
        addresses={"api": api, **{name: server.address for name, server in others.servers.items()}},
        people=plan.people,
        families=families,
        family_bytes=await family_bytes(api, families, seed=plan.seed),
        clients=plan.clients,
        open_rate=plan.open_rate,
        seed=plan.seed,
        key=key,
    )


def _workers(plan: Plan, urls: StackUrls, site: Site, closing: AsyncExitStack) -> _Workers:
    spawn = multiprocessing.get_context("spawn")
    asks = closing.enter_context(ProcessPoolExecutor(1, spawn, initializer=generator.start, initargs=(site,)))
    if "driver" not in plan.arms:
        return _Workers(asks, None)
    graph = graph_load.Graph(
        uri=urls.neo4j_uri,
        user=urls.neo4j_user,
        password=urls.neo4j_password,
        contacts=array("q", (contact for family in site.families for contact in family)),
        family_contacts=FAMILY_CONTACTS,
        tasks=plan.clients,
        seed=plan.seed,
    )
    walks = closing.enter_context(ProcessPoolExecutor(1, spawn, initializer=graph_load.start, initargs=(graph,)))
    return _Workers(asks, walks)


def _check_running(stack: Stack) -> None:
    for process in stack.processes:
        if not process.running:
            raise BenchError(f"{process.name} died; {process.log_tail()}")


async def _drift(urls: StackUrls) -> int:
    """What `nexus-graph verify` finds. Raises BenchError if it cannot say."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nexus_graph", "verify", "--json"),
        env={**os.environ, **urls.environment()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(VERIFY_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return int(json.loads(said)["drift"])
    except (ValueError, KeyError, TypeError):
        raise BenchError(f"verify ended with exit code {process.returncode} and did not say how many") from None
