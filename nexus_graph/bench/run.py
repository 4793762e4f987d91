"""One run of the benchmark: a stack of its own, people, rounds, and what is true afterwards."""

import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

import asyncpg
from neo4j import AsyncDriver, AsyncGraphDatabase

from nexus_graph.bench import express, load, record, straight
from nexus_graph.bench.arms import FamilyQuery
from nexus_graph.bench.beside import Server, another_api, serving
from nexus_graph.bench.client import HttpClient
from nexus_graph.bench.lag import LagWatch
from nexus_graph.bench.load import Address, Load, Site
from nexus_graph.bench.machine import Machine, MemoryWatch, Processors, commit
from nexus_graph.bench.pgbench import Pgbench
from nexus_graph.bench.plan import WRITING_ARMS, BenchError, Plan
from nexus_graph.bench.report import DURABILITY
from nexus_graph.bench.result import Lag, Measurement, Result
from nexus_graph.bench.statements import statement
from nexus_graph.bench.workload import preloaded
from nexus_graph.devstack import archive, jars
from nexus_graph.devstack.process import in_thread
from nexus_graph.devstack.stack import Stack, StackOptions, StackUrls
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
# With gathering off a reader's query goes out at once, as a server without it would send it.
ALONE: Final = {
    "NEXUS_GRAPH_BATCH_MAX_READS": "1",
    "NEXUS_GRAPH_READ_BATCHES": "32",
    "NEXUS_GRAPH_CONNECTIONS": "40",
}

Say = Callable[[str], None]


async def run(plan: Plan, *, command: str, say: Say) -> Result:
    """Run the plan. Raises BenchError, StackError or PgbenchError when that cannot be done."""
    started_at, commit_at_start = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), commit()
    with _data_folder(plan) as folder:
        # As a user has it after the first start: Neo4j's archive is there.
        interrupted = threading.Event()
        installation = await in_thread(jars.install, say, None, interrupted, interrupt=interrupted.set)
        await archive.make(installation, say, in_background=False)
        options = StackOptions(port=0, data_dir=folder, browser_port=0, bolt_port=0, quiet=True)
        say("starting a stack of its own")
        async with Stack(options) as stack, _opened(plan, stack, say) as bench:
            say("rehearsing every arm")
            await bench.rehearse()
            measurements = [
                await bench.measured(arm, number)
                for number in range(plan.rounds)
                for arm in plan.arms_of_round(number)
                if arm not in bench.skipped
            ]
            say("waiting for the graph, then comparing both stores")
            drained = await bench.drained(timeout_seconds=DRAIN_SECONDS)
            return Result(
                at=started_at,
                command=command,
                commit=commit_at_start,
                machine=Machine.here(folder),
                servers=await _servers(bench.pool, bench.driver),
                plan={name: value for name, value in asdict(plan).items() if name != "data_dir"},
                measurements=measurements,
                skipped=bench.skipped,
                lag=Lag(bench.watch.outbox_ages, bench.watch.probe_lags),
                drained=drained,
                drift=await _drift(stack.urls),
            )


@dataclass(frozen=True)
class _Beside:
    """What runs beside the stack for the sake of some arms, and why other arms cannot run."""

    servers: Mapping[str, Server]
    skipped: Mapping[str, str]


@dataclass(frozen=True)
class _Workers:
    """Processes of our own that ask."""

    generator: ProcessPoolExecutor
    straight: ProcessPoolExecutor | None
    """For the arm `driver`."""

    def pids(self) -> dict[str, int]:
        """By what they are called in the report."""
        named = {"generator": self.generator, "driver": self.straight}
        return {name: executor.submit(os.getpid).result() for name, executor in named.items() if executor is not None}


@dataclass
class _Bench:
    """Everything that runs, ready to be measured."""

    plan: Plan
    stack: Stack
    pool: Pool
    driver: AsyncDriver
    watch: LagWatch
    pgbench: Pgbench
    workers: _Workers
    skipped: Mapping[str, str]
    say: Say
    processors: Processors = field(init=False)

    def watch_processors(self, beside: Mapping[str, Server]) -> None:
        """From now on it is known who uses the machine. Raises BenchError if a process of the stack has died."""
        _check_running(self.stack)
        roots = {name: self.stack.process(name).pid for name in ("api", "postgres", "neo4j", "relay")}
        roots |= {name: server.pid for name, server in beside.items()}
        self.processors = Processors({**roots, **self.workers.pids()})

    async def measured(self, arm: str, number: int) -> Measurement:
        """One arm, in the round of this number."""
        await self.drained(timeout_seconds=SETTLE_SECONDS)
        mark = await record.event_mark(self.pool)
        self.watch.arm = arm if arm in WRITING_ARMS else None
        self.processors.in_use()
        async with MemoryWatch(self.stack.process("api").pid) as memory:
            loaded = await self._load(arm, number, seconds=self.plan.seconds)
        cores = self.processors.in_use()
        self.watch.arm = None
        outcomes: dict[str, float] = {}
        if arm in WRITING_ARMS:
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
                await self._load(arm, self.plan.rounds, seconds=REHEARSAL_SECONDS)

    async def _load(self, arm: str, number: int, *, seconds: float) -> Load:
        warmup_seconds = self.plan.warmup_seconds
        if arm == "pgbench":
            return await self.pgbench.measure(number, warmup_seconds=warmup_seconds, seconds=seconds)
        loop = asyncio.get_running_loop()
        if arm == "driver":
            return await loop.run_in_executor(self.workers.straight, straight.measure, warmup_seconds, seconds)
        return await loop.run_in_executor(self.workers.generator, load.measure, arm, warmup_seconds, seconds)


@asynccontextmanager
async def _opened(plan: Plan, stack: Stack, say: Say) -> AsyncIterator[_Bench]:
    """Open everything that a measurement needs, on a stack that runs."""
    urls = stack.urls
    async with AsyncExitStack() as closing:
        pool = await closing.enter_async_context(asyncpg.create_pool(urls.database_url, min_size=3, max_size=3))
        if off := [name for name in DURABILITY if (await record.settings(pool))[name] != "on"]:
            raise BenchError(f"{', '.join(off)} is not on: only durable answers are measured")
        driver = AsyncGraphDatabase.driver(urls.neo4j_uri, auth=(urls.neo4j_user, urls.neo4j_password))
        await closing.enter_async_context(driver)
        families = await _populate(plan, pool, say)
        watch = await closing.enter_async_context(LagWatch(pool, driver))
        beside = await _beside(plan, stack, closing, say)
        site = await _site(plan, urls, beside, families)
        bench = _Bench(
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
            workers=_workers(plan, urls, site, closing),
            skipped=beside.skipped,
            say=say,
        )
        bench.watch_processors(beside.servers)
        if not await bench.drained(timeout_seconds=DRAIN_SECONDS):
            raise BenchError("the relay did not bring the loaded people into the graph")
        say("the people are in the graph")
        yield bench


async def _populate(plan: Plan, pool: Pool, say: Say) -> list[list[int]]:
    """Load the people, and the families that are asked for; the contact ids of each of these."""
    say(f"loading {plan.people:,} people and {FAMILIES} families of {FAMILY_CONTACTS} contacts")
    await record.load(pool, preloaded(plan.people))
    families = await record.load_families(pool, count=FAMILIES, contacts=FAMILY_CONTACTS, seed=plan.seed)
    say("they are in the record")
    return families


async def _beside(plan: Plan, stack: Stack, closing: AsyncExitStack, say: Say) -> _Beside:
    """Start what the plan's arms need."""
    servers: dict[str, Server] = {}
    skipped: dict[str, str] = {}
    if "echo" in plan.arms:
        echo = serving(stack, "echo", lambda port: [sys.executable, "-m", "nexus_graph.bench.echo", str(port)])
        servers["echo"] = await closing.enter_async_context(echo)
    if "family_alone" in plan.arms:
        servers["family_alone"] = await closing.enter_async_context(another_api(stack, "family_alone", ALONE))
    if "express" in plan.arms:
        try:
            argv = await express.installed_in_thread()
        except express.CannotRun as error:
            skipped["express"] = str(error)
            say(f"express is left out: {error}")
        else:
            database = await express.prepare_database(stack.urls.database_url, preloaded(plan.people))
            original = serving(stack, "express", lambda _port: argv, env=express.environment(database))
            servers["express"] = await closing.enter_async_context(original)
    return _Beside(servers, skipped)


async def _site(plan: Plan, urls: StackUrls, beside: _Beside, families: Sequence[Sequence[int]]) -> Site:
    parts = urlsplit(urls.api)
    api = Address(str(parts.hostname), int(parts.port or 0))
    return Site(
        addresses={"api": api, **{name: server.address for name, server in beside.servers.items()}},
        people=plan.people,
        families=families,
        family_bytes=await _family_bytes(api, families, seed=plan.seed),
        clients=plan.clients,
        open_rate=plan.open_rate,
        seed=plan.seed,
    )


async def _family_bytes(api: Address, families: Sequence[Sequence[int]], *, seed: int) -> int:
    """How long an answer about a family is: the median of some, whichever store gives it."""
    arm = FamilyQuery(families, host=api.authority, seed=seed)
    async with HttpClient(api.host, api.port) as client:
        return round(
            statistics.median(
                [len((await client.post("/graphql", arm.body(family[0]))).body) for family in families[:FAMILIES_SIZED]]
            )
        )


def _workers(plan: Plan, urls: StackUrls, site: Site, closing: AsyncExitStack) -> _Workers:
    spawn = multiprocessing.get_context("spawn")
    generator = closing.enter_context(ProcessPoolExecutor(1, spawn, initializer=load.start, initargs=(site,)))
    if "driver" not in plan.arms:
        return _Workers(generator, None)
    graph = straight.Graph(
        uri=urls.neo4j_uri,
        user=urls.neo4j_user,
        password=urls.neo4j_password,
        contacts=array("q", (family[0] for family in site.families)),
        family_contacts=FAMILY_CONTACTS,
        tasks=plan.clients,
        seed=plan.seed,
    )
    asks = closing.enter_context(ProcessPoolExecutor(1, spawn, initializer=straight.start, initargs=(graph,)))
    return _Workers(generator, asks)


@contextmanager
def _data_folder(plan: Plan) -> Iterator[Path]:
    if plan.data_dir is not None:
        yield plan.data_dir
        return
    # /tmp is often held in memory, where a commit costs nothing.
    parent = None if "TMPDIR" in os.environ or not Path("/var/tmp").is_dir() else "/var/tmp"  # noqa: S108 - mkdtemp
    with tempfile.TemporaryDirectory(prefix="nexus-bench-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"


def _check_running(stack: Stack) -> None:
    for process in stack.processes:
        if not process.running:
            raise BenchError(f"{process.name} died; {process.log_tail()}")


async def _servers(pool: Pool, driver: AsyncDriver) -> Mapping[str, str]:
    settings = await record.settings(pool)
    found = await driver.execute_query(statement("server_version.cypher"))
    kernel = found.records[0]
    neo4j = f"{kernel['name']} {kernel['version']} {kernel['edition']}"
    kept = {name: settings[name] for name in (*DURABILITY, "wal_sync_method")}
    return {"postgres": settings["server_version"], "neo4j": neo4j, **kept}


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
