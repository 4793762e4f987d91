"""One run of the benchmark: a stack of its own, people, rounds, and what is true afterwards."""

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import threading
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

from nexus_graph.bench import echo, load, record
from nexus_graph.bench.lag import LagWatch
from nexus_graph.bench.load import Address, Load, Site
from nexus_graph.bench.machine import Machine, Processors, commit
from nexus_graph.bench.pgbench import Pgbench
from nexus_graph.bench.report import DURABILITY, Lag, Measurement, Result
from nexus_graph.bench.statements import statement
from nexus_graph.bench.workload import preloaded
from nexus_graph.devstack import archive, jars, probes
from nexus_graph.devstack.ports import PortLeases
from nexus_graph.devstack.process import ChildProcess, Command, in_thread
from nexus_graph.devstack.stack import Stack, StackOptions, StackUrls
from nexus_graph.store.database import Pool

ARMS: Final = ("rest", "graphql", "family", "pgbench", "echo")
WRITING_ARMS: Final = frozenset({"rest", "graphql", "pgbench"})
FAMILIES: Final = 500
FAMILY_CONTACTS: Final = 10
REHEARSAL_SECONDS: Final = 3.0
SETTLE_SECONDS: Final = 3.0
"""Before an arm, the relay gets this long to finish what the last one left."""
DRAIN_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 1.0
"""How often a long wait looks whether the processes still run."""
VERIFY_SECONDS: Final = 600.0

Say = Callable[[str], None]


class BenchError(Exception):
    """The benchmark cannot be run, or what it ran is no measurement; the message says why."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    rounds: int = 5
    seconds: float = 6.0
    warmup_seconds: float = 0.7
    clients: int = 32
    people: int = 5_000
    seed: int = 20_260_901
    arms: Sequence[str] = field(default=ARMS)
    data_dir: Path | None = None
    """An empty or new folder, kept afterwards; None: a temporary one."""

    def __post_init__(self) -> None:
        if unknown := set(self.arms) - set(ARMS):
            raise BenchError(f"unknown arms: {', '.join(sorted(unknown))}; there are {', '.join(ARMS)}")
        if self.data_dir is not None and self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise BenchError(f"{self.data_dir} is not empty: the benchmark wants a data directory of its own")

    def arms_of_round(self, number: int) -> Sequence[str]:
        """Every arm once; each round begins one arm further on."""
        first = number % len(self.arms)
        return (*self.arms[first:], *self.arms[:first])


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
                await bench.measured(arm, number) for number in range(plan.rounds) for arm in plan.arms_of_round(number)
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
                lag=Lag(bench.watch.outbox_ages, bench.watch.probe_lags),
                drained=drained,
                drift=await _drift(stack.urls),
            )


class _Bench:
    """Everything that runs, ready to be measured."""

    def __init__(
        self,
        plan: Plan,
        stack: Stack,
        *,
        pool: Pool,
        driver: AsyncDriver,
        watch: LagWatch,
        pgbench: Pgbench,
        generator: ProcessPoolExecutor,
        processors: Processors,
        say: Say,
    ) -> None:
        self.pool = pool
        self.driver = driver
        self.watch = watch
        self._plan = plan
        self._stack = stack
        self._pgbench = pgbench
        self._generator = generator
        self._processors = processors
        self._say = say

    async def measured(self, arm: str, number: int) -> Measurement:
        """One arm, in the round of this number."""
        await self.drained(timeout_seconds=SETTLE_SECONDS)
        mark = await record.event_mark(self.pool)
        self.watch.arm = arm if arm in WRITING_ARMS else None
        self._processors.in_use()
        loaded = await self._load(arm, number, seconds=self._plan.seconds)
        cores = self._processors.in_use()
        self.watch.arm = None
        outcomes: dict[str, float] = {}
        if arm in WRITING_ARMS:
            outcomes = await record.outcome_shares(self.pool, since=mark, requests=loaded.requests)
        measurement = Measurement.of(arm, number, loaded, cores=cores, outcomes=outcomes)
        latency = measurement.latency_ms
        self._say(
            f"round {number + 1}  {arm:<8} {measurement.rate:>8,.0f} req/s   p50 {latency['p50_ms']:.2f} ms   "
            f"p99 {latency['p99_ms']:.2f} ms" + (f"   {loaded.wrong} WRONG" if loaded.wrong else "")
        )
        return measurement

    async def drained(self, *, timeout_seconds: float) -> bool:
        """Wait until no change waits for the graph; False if that takes too long. Raises BenchError, with the end of
        its log, if a process has died.
        """
        deadline = perf_counter() + timeout_seconds
        while True:
            _check_running(self._stack)
            if await self.watch.drained(timeout_seconds=min(timeout_seconds, LOOK_SECONDS)):
                return True
            if perf_counter() > deadline:
                return False

    async def rehearse(self) -> None:
        """Run every arm for a moment: a JVM is slow until it has done a thing often, and so are cold caches."""
        for arm in self._plan.arms:
            await self.drained(timeout_seconds=SETTLE_SECONDS)
            await self._load(arm, self._plan.rounds, seconds=REHEARSAL_SECONDS)

    async def _load(self, arm: str, number: int, *, seconds: float) -> Load:
        warmup_seconds = self._plan.warmup_seconds
        if arm == "pgbench":
            return await self._pgbench.measure(number, warmup_seconds=warmup_seconds, seconds=seconds)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._generator, load.measure, arm, warmup_seconds, seconds)


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
        say(f"loading {plan.people:,} people and {FAMILIES} families of {FAMILY_CONTACTS} contacts")
        await record.load(pool, preloaded(plan.people))
        families = await record.load_families(pool, count=FAMILIES, contacts=FAMILY_CONTACTS, seed=plan.seed)
        echo_server = await closing.enter_async_context(_echo(stack))
        generator = closing.enter_context(_generator(_site(plan, urls, echo_server, families)))
        reached = await record.connected(pool, urls.database_url)
        bench = _Bench(
            plan,
            stack,
            pool=pool,
            driver=driver,
            watch=await closing.enter_async_context(LagWatch(pool, driver)),
            pgbench=Pgbench(reached, people=plan.people, clients=plan.clients, runs=plan.rounds + 1),
            generator=generator,
            processors=_processors(stack, echo_server, generator),
            say=say,
        )
        if not await bench.drained(timeout_seconds=DRAIN_SECONDS):
            raise BenchError("the relay did not bring the loaded people into the graph")
        yield bench


def _site(plan: Plan, urls: StackUrls, echo_server: "_EchoServer", families: Sequence[Sequence[int]]) -> Site:
    api = urlsplit(urls.api)
    return Site(
        api=Address(str(api.hostname), int(api.port or 0)),
        echo=echo_server.address,
        people=plan.people,
        families=families,
        clients=plan.clients,
        seed=plan.seed,
    )


def _processors(stack: Stack, echo_server: "_EchoServer", generator: ProcessPoolExecutor) -> Processors:
    _check_running(stack)
    roots = {name: stack.process(name).pid for name in ("api", "postgres", "neo4j", "relay")}
    return Processors({**roots, "echo": echo_server.pid, "generator": generator.submit(os.getpid).result()})


@contextmanager
def _data_folder(plan: Plan) -> Iterator[Path]:
    if plan.data_dir is not None:
        yield plan.data_dir
        return
    # /tmp is often held in memory, where a commit costs nothing.
    parent = None if "TMPDIR" in os.environ or not Path("/var/tmp").is_dir() else "/var/tmp"  # noqa: S108 - mkdtemp
    with tempfile.TemporaryDirectory(prefix="nexus-bench-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"


@contextmanager
def _generator(site: Site) -> Iterator[ProcessPoolExecutor]:
    """The load generator's process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=load.start, initargs=(site,)) as executor:
        yield executor


@dataclass(frozen=True)
class _EchoServer:
    address: Address
    pid: int


@asynccontextmanager
async def _echo(stack: Stack) -> AsyncIterator[_EchoServer]:
    leases = PortLeases()
    address = Address(echo.HOST, leases.choose(0))

    async def answers() -> bool:
        return (await probes.http(f"http://{address.authority}/health")).ok

    process = ChildProcess(
        Command(
            name="echo",
            argv=[sys.executable, "-m", "nexus_graph.bench.echo", str(address.port)],
            log=stack.options.data_dir / "logs" / "echo.log",
            cwd=Path.cwd(),
            probe=answers,
        )
    )
    await process.start()
    try:
        yield _EchoServer(address, process.pid)
    finally:
        await process.stop()
        leases.release()


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
