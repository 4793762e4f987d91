"""One run of the benchmark: a stack of its own, people, rounds, and what is true afterwards."""

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from neo4j import AsyncDriver

from bench import record, sides
from bench.gauges import Machine, commit
from bench.pairs import Comparison
from bench.parts import PARTS
from bench.plan import Plan
from bench.report import DURABILITY
from bench.result import Lag, Part, Result
from bench.stack import DRAIN_SECONDS, Running, Say, opened
from bench.statements import statement
from nexus_graph.devstack import archive, jars
from nexus_graph.devstack.process import in_thread
from nexus_graph.devstack.stack import Stack, StackOptions
from nexus_graph.store.database import Pool


async def run(plan: Plan, *, command: str, say: Say) -> Result:
    """Run the plan. Raises BenchError, StackError or PgbenchError when that cannot be done."""
    started_at, commit_at_start = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), commit()
    with _data_folder(plan) as folder:
        await _install(say)
        options = StackOptions(port=0, data_dir=folder, browser_port=0, bolt_port=0, quiet=True)
        say("starting a stack of its own")
        async with Stack(options) as stack, opened(plan, stack, say) as bench:
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
            lag = Lag(tuple(bench.watch.outbox_ages), tuple(bench.watch.probe_lags))
            drift = await bench.drift()
            return Result(
                at=started_at,
                command=command,
                commit=commit_at_start,
                machine=Machine.here(folder),
                servers=await _servers(bench.pool, bench.driver),
                plan={name: value for name, value in asdict(plan).items() if name != "data_dir"},
                measurements=measurements,
                skipped=bench.skipped,
                lag=lag,
                drained=drained,
                drift=drift,
                original_faults=await bench.original_faults(),
                parts=[await _part(bench, name) for name in plan.parts],
            )


async def compare(plan: Plan, *, command: str, say: Say) -> Comparison:
    """Compare the present code with the plan's revision. Raises BenchError or StackError when that cannot be done."""
    with _data_folder(plan) as folder:
        await _install(say)
        folder.mkdir(exist_ok=True)
        return await sides.compared(plan, folder=folder, command=command, say=say)


async def _install(say: Say) -> None:
    """As a user has it after the first start: Neo4j's archive is there."""
    interrupted = threading.Event()
    installation = await in_thread(jars.install, say, None, interrupted, interrupt=interrupted.set)
    await archive.make(installation, say, in_background=False)


async def _part(bench: Running, name: str) -> Part:
    bench.say(f"part: {name}")
    part = await PARTS[name](bench)
    for figure in part.figures:
        bench.say(f"{name}  {figure.what}: {figure.value:,g} {figure.unit}")
    return part


@contextmanager
def _data_folder(plan: Plan) -> Iterator[Path]:
    if plan.data_dir is not None:
        yield plan.data_dir
        return
    # /tmp is often held in memory, where a commit costs nothing.
    parent = None if "TMPDIR" in os.environ or not Path("/var/tmp").is_dir() else "/var/tmp"  # noqa: S108 - mkdtemp
    with tempfile.TemporaryDirectory(prefix="nexus-bench-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "data"


async def _servers(pool: Pool, driver: AsyncDriver) -> Mapping[str, str]:
    settings = await record.settings(pool)
    found = await driver.execute_query(statement("server_version.cypher"))
    kernel = found.records[0]
    neo4j = f"{kernel['name']} {kernel['version']} {kernel['edition']}"
    kept = {name: settings[name] for name in (*DURABILITY, "wal_sync_method")}
    return {"postgres": settings["server_version"], "neo4j": neo4j, **kept}
