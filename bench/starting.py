"""The part `start`: how long the command takes to say what it can, and the API to serve."""

import asyncio
import statistics
import sys
from time import perf_counter
from typing import Final

from bench.beside import another_api
from bench.result import Figure, Part
from bench.running import Running

HELP_STARTS: Final = 7
SERVE_STARTS: Final = 3


async def measured(bench: Running) -> Part:
    """Medians of several starts, the first of each left out: it reads from the disk what later ones find in memory."""
    begun = "nexus-graph serve, until /health says 200"
    helps = [await _help() for _ in range(HELP_STARTS + 1)]
    serves = [await _serve(bench, number) for number in range(SERVE_STARTS + 1)]
    return Part(
        "start",
        [
            Figure("nexus-graph --help", round(statistics.median(helps[1:]), 3), "s", at_most=0.25),
            Figure(begun, round(statistics.median(serves[1:]), 3), "s", at_most=1.5),
        ],
    )


async def _help() -> float:
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nexus_graph", "--help"), stdout=asyncio.subprocess.DEVNULL
    )
    await process.wait()
    return perf_counter() - began


async def _serve(bench: Running, number: int) -> float:
    began = perf_counter()
    async with another_api(bench.stack, f"start-{number}", {}):
        return perf_counter() - began
