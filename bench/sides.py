"""The run that compares two revisions: a stack for each, one generator's code for both, rounds in the order A B B A."""

import asyncio
import json
import multiprocessing
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Final

import asyncpg
import psutil

from bench import record
from bench.gauges import Machine, commit, tree_seconds
from bench.load import generator
from bench.load.arms import identifiers_body
from bench.load.client import HttpClient
from bench.load.generator import Site, server_of
from bench.load.loops import Load
from bench.load.workload import Pairing, grown_families, preloaded
from bench.pairs import Comparison, Sample
from bench.plan import BenchError, Plan
from bench.result import percentiles_ms
from bench.revision import Revision, checked_out
from bench.servers import Server, another_api
from bench.stack import (
    DRAIN_SECONDS,
    FAMILIES,
    FAMILY_CONTACTS,
    OTHER_APIS,
    OTHER_BOUNDS,
    Say,
    api_address,
    family_bytes,
)
from bench.statements import statement
from nexus_graph.devstack.stack import Stack, StackOptions

ROUNDS_REHEARSED: Final = 2
REHEARSAL_SECONDS: Final = 2.0
"""Twice as long for each arm and side: the JVM of a graph is slow until it has done a thing often."""
DRAIN_STEP_SECONDS: Final = 0.02
LEFTOVER_SECONDS: Final = 30.0
"""So long may a relay finish what an arm left: the other side must not be measured meanwhile."""
SERVERS: Final = ("postgres", "neo4j", "relay")
PATIENT: Final = {"NEXUS_GRAPH_PATIENCE_SECONDS": "2"}
"""On a busy machine the graph may be slow for a moment; the record would answer in its place, on one side only."""


@dataclass(frozen=True)
class Side:
    """One revision, ready to be measured."""

    present: bool
    name: str
    stack: Stack
    apis: Mapping[str, int]
    """Process ids of the APIs, by the name of the server that an arm is sent to."""
    connection: asyncpg.Connection
    workers: ProcessPoolExecutor
    """The load generator."""

    async def sample(self, arm: str, number: int, plan: Plan) -> Sample:
        """One arm, in the round of this number."""
        before = self._seconds(arm)
        measured = await self.load(arm, plan.warmup_seconds, plan.seconds)
        await self.drained(LEFTOVER_SECONDS)
        spent = [after - earlier for after, earlier in zip(self._seconds(arm), before, strict=True)]
        api_us, servers_us = (seconds / measured.requests * 1e6 for seconds in spent)
        latency = percentiles_ms(measured.latencies)
        return Sample(
            arm=arm,
            round=number,
            present=self.present,
            rate=measured.rate,
            p50_ms=latency["p50_ms"],
            p99_ms=latency["p99_ms"],
            api_us=round(api_us, 2),
            servers_us=round(servers_us, 2),
            requests=measured.requests,
            wrong=measured.wrong,
            wrong_shown=measured.wrong_shown,
        )

    async def load(self, arm: str, warmup_seconds: float, seconds: float) -> Load:
        """Run one arm. Raises BenchError, with the end of its log, if a process of this side has died."""
        for process in self.stack.processes:
            if not process.running:
                raise BenchError(f"{process.name} of {self.name} died; {process.log_tail()}")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.workers, generator.measure, arm, warmup_seconds, seconds)

    async def drained(self, timeout_seconds: float) -> bool:
        """Wait until no change waits for the graph; False if that takes too long."""
        deadline = perf_counter() + timeout_seconds
        while await self.connection.fetchval(statement("outbox_age.sql")) > 0:
            if perf_counter() > deadline:
                return False
            await asyncio.sleep(DRAIN_STEP_SECONDS)
        return True

    def _seconds(self, arm: str) -> tuple[float, float]:
        """CPU time so far: of the API that the arm is sent to, and of all servers behind it as well."""
        api = tree_seconds(psutil.Process(self.apis[server_of(arm)]))
        behind = (tree_seconds(psutil.Process(self.stack.process(name).pid)) for name in SERVERS)
        return api, api + sum(behind)


async def compared(plan: Plan, *, folder: Path, command: str, say: Say) -> Comparison:
    """Compare the present code with the revision of the plan. Raises BenchError or StackError if there is no way."""
    started_at, present_commit = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), commit()
    assert plan.revision is not None
    async with AsyncExitStack() as closing:
        revision = closing.enter_context(checked_out(plan.revision))
        say(f"comparing {present_commit} with {plan.revision}, which is {revision.commit}")
        sides = [
            await closing.enter_async_context(_opened(plan, revision if other else None, folder, say))
            for other in (False, True)
        ]
        say("rehearsing every arm on both sides")
        for _ in range(ROUNDS_REHEARSED):
            for arm in plan.arms:
                for side in sides:
                    await side.load(arm, 0.0, REHEARSAL_SECONDS)
                    await side.drained(LEFTOVER_SECONDS)
        samples = [sample async for sample in _samples(plan, sides, say)]
        return Comparison(
            at=started_at,
            command=command,
            commit=present_commit,
            revision=plan.revision,
            revision_commit=revision.commit,
            machine=Machine.here(folder),
            plan={name: value for name, value in asdict(plan).items() if name != "data_dir"},
            samples=samples,
        )


async def _samples(plan: Plan, sides: Sequence[Side], say: Say) -> AsyncIterator[Sample]:
    """Every arm on both sides once a round. The side that went second goes first in the next round: A B, then B A."""
    for number in range(plan.rounds):
        for arm in plan.arms_of_round(number):
            reached: dict[bool, Sample] = {}
            for side in sides if number % 2 == 0 else sides[::-1]:
                sample = await side.sample(arm, number, plan)
                reached[side.present] = sample
                yield sample
            rates = [reached[present].rate for present in (True, False)]
            ratio = f"{rates[0] / rates[1]:.3f}" if rates[1] else "none"
            wrong = sum(sample.wrong for sample in reached.values())
            say(
                f"round {number + 1}  {arm:<14} {rates[0]:>8,.0f} and {rates[1]:>8,.0f} req/s   ratio {ratio}"
                + (f"   {wrong} WRONG" if wrong else "")
            )


@asynccontextmanager
async def _opened(plan: Plan, revision: Revision | None, folder: Path, say: Say) -> AsyncIterator[Side]:
    """A stack that runs the revision, or the present code, with people in its record and in its graph."""
    name = "the present revision" if revision is None else revision.name
    environment = {**PATIENT, **(revision.environment if revision else {})}
    options = StackOptions(
        port=0,
        data_dir=folder / ("present" if revision is None else "other"),
        browser_port=0,
        bolt_port=0,
        quiet=True,
        env=environment,
    )
    say(f"starting a stack for {name}")
    async with AsyncExitStack() as closing:
        stack = await closing.enter_async_context(Stack(options))
        connection = await asyncpg.connect(stack.urls.database_url)
        closing.push_async_callback(connection.close)
        servers: dict[str, Server] = {}
        for arm, settings in OTHER_APIS.items():
            if arm in plan.arms:
                api = another_api(stack, arm, {**environment, **settings}, bounds=OTHER_BOUNDS.get(arm))
                servers[arm] = await closing.enter_async_context(api)
        families = list(grown_families(FAMILIES, contacts=FAMILY_CONTACTS, seed=plan.seed))
        env = {**os.environ, **stack.urls.environment(), **environment}
        await record.imported(env, chain(preloaded(plan.people), families))
        await record.settled(stack.urls.database_url)
        site = await _site(plan, stack, servers, families[::FAMILY_CONTACTS])
        spawn = multiprocessing.get_context("spawn")
        asks = closing.enter_context(ProcessPoolExecutor(1, spawn, initializer=generator.start, initargs=(site,)))
        apis = {"api": stack.process("api").pid, **{arm: server.pid for arm, server in servers.items()}}
        side = Side(revision is None, name, stack, apis, connection, asks)
        if not await side.drained(DRAIN_SECONDS):
            raise BenchError(f"the relay of {name} did not bring the imported people into the graph")
        yield side


async def _site(plan: Plan, stack: Stack, servers: Mapping[str, Server], firsts: Sequence[Pairing]) -> Site:
    """What the load is aimed at; `firsts` are a pairing of each family that is asked for."""
    api = api_address(stack.urls)
    async with HttpClient(api.host, api.port) as client:
        families = [await _contacts(client, pairing) for pairing in firsts]
    return Site(
        addresses={"api": api, **{name: server.address for name, server in servers.items()}},
        people=plan.people,
        families=families,
        family_bytes=await family_bytes(api, families, seed=plan.seed),
        clients=plan.clients,
        open_rate=plan.open_rate,
        seed=plan.seed,
    )


async def _contacts(client: HttpClient, pairing: Pairing) -> list[int]:
    """The contact ids of a family, as the contract of REST names them in every revision."""
    contact = json.loads((await client.post("/identify", identifiers_body(pairing))).body)["contact"]
    return [contact["primaryContactId"], *contact["secondaryContactIds"]]
