"""Servers next to the stack: each a process of its own on a free port, for as long as it is measured."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load.client import Address
from nexus_graph.devstack import probes
from nexus_graph.devstack.ports import LOOPBACK, PortLeases
from nexus_graph.devstack.process import ChildProcess, Command
from nexus_graph.devstack.stack import Stack


@dataclass(frozen=True)
class Server:
    """Where it listens, and its process id."""

    address: Address
    pid: int


@asynccontextmanager
async def serving(
    logs: Path,
    name: str,
    argv: Callable[[int], Sequence[str]],
    *,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Server]:
    """A server that answers /health, with a log of its name. `argv` and the environment (PORT) get the port.

    Raises StackError, with the end of its log, if it does not answer.
    """
    leases = PortLeases()
    address = Address(LOOPBACK, leases.choose(0))

    async def answers() -> bool:
        return (await probes.http(f"http://{address.authority}/health")).ok

    process = ChildProcess(
        Command(
            name=name,
            argv=argv(address.port),
            log=logs / f"{name}.log",
            cwd=Path.cwd(),
            probe=answers,
            env={**os.environ, "PORT": str(address.port), **(env or {})},
        )
    )
    await process.start()
    try:
        yield Server(address, process.pid)
    finally:
        await process.stop()
        leases.release()


@asynccontextmanager
async def another_api(
    stack: Stack, name: str, settings: Mapping[str, str], *options: str, bounds: Mapping[str, int] | None = None
) -> AsyncIterator[Server]:
    """The API once more on the stack's servers, with other settings (NEXUS_…), other constants of
    `nexus_graph.gather.bounds` and metrics of its own.
    """
    metrics = stack.options.data_dir / f"metrics-{name}"
    metrics.mkdir()
    env = {**stack.urls.environment(), "PROMETHEUS_MULTIPROC_DIR": str(metrics), **settings}
    program = _program(bounds) if bounds else ("-m", "nexus_graph")
    command = (sys.executable, *program, "serve", "--host", LOOPBACK, *options)
    async with serving(logs(stack), name, lambda port: [*command, "--port", str(port)], env=env) as server:
        yield server


def logs(stack: Stack) -> Path:
    """Where the stack's processes write theirs."""
    return stack.options.data_dir / "logs"


def _program(bounds: Mapping[str, int]) -> tuple[str, str]:
    """What Python runs: the command line, once these constants are set."""
    constants = "".join(f"bounds.{name} = {value}; " for name, value in bounds.items())
    return "-c", f"from nexus_graph.gather import bounds; {constants}from nexus_graph.__main__ import main; main()"
