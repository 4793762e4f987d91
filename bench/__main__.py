"""python -m bench: measure next to the limits of the machine, or next to another revision; keep it in bench/results.

Exit codes: 0 all floors held, or every arm of the comparison; 1 one was missed, or there is no measurement, and the
output says why; 2 wrong options.
"""

import asyncio
import json
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console

from bench import report, runs
from bench.load.pgbench import PgbenchError
from bench.plan import COMPARISON, FULL, SHORT, BenchError, Plan
from bench.record import expected_shares
from bench.run import compare, run
from bench.verdict import failures
from nexus_graph.devstack.process import StackError

Done = TypeVar("Done")
FAILED = 1
WRONG_OPTIONS = 2
WIDTH = 120  # where there is no terminal to ask


def bench(
    *,
    full: Annotated[bool, typer.Option("--full", help="Every arm and part, for longer; else about 5 minutes.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, max=100, help="Rounds; each runs every arm once.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="How long an arm is measured.")] = None,
    warmup: Annotated[float | None, typer.Option(min=0.0, help="And how long before that.")] = None,
    clients: Annotated[int | None, typer.Option(min=1, max=256, help="Closed-loop clients.")] = None,
    people: Annotated[int | None, typer.Option(min=100, max=200_000, help="People loaded before.")] = None,
    open_rate: Annotated[float | None, typer.Option(min=1, max=50_000, help="Requests a second of `open`.")] = None,
    arms: Annotated[str | None, typer.Option(help="Which arms, separated by commas; see bench/README.md.")] = None,
    parts: Annotated[str | None, typer.Option(help="What runs after the rounds; see bench/README.md.")] = None,
    sustain_seconds: Annotated[float | None, typer.Option(min=1, help="How long `sustain` lasts.")] = None,
    growth_people: Annotated[int | None, typer.Option(min=20_000, help="How many `growth` grows to.")] = None,
    bulk_contacts: Annotated[int | None, typer.Option(min=1_000, help="How many `bulk` imports.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the load.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="A new folder to keep; else a temporary one.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file as well.")] = None,
    beside: Annotated[str | None, typer.Option(metavar="REVISION", help="Only compare with this revision.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep the result in bench/results and docs/benchmarks.md.")] = True,
) -> None:
    """Measure nexus_graph next to the limits of this machine, or next to another revision."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    given: dict[str, Any] = {
        "rounds": rounds,
        "seconds": seconds,
        "warmup_seconds": warmup,
        "clients": clients,
        "people": people,
        "open_rate": open_rate,
        "arms": _names(arms),
        "parts": _names(parts),
        "sustain_seconds": sustain_seconds,
        "growth_people": growth_people,
        "bulk_contacts": bulk_contacts,
        "seed": seed,
        "data_dir": data_dir,
        "revision": beside,
    }
    usual = COMPARISON if beside is not None else FULL if full else SHORT
    try:
        plan = replace(usual, **{name: value for name, value in given.items() if value is not None})
    except BenchError as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(WRONG_OPTIONS) from None
    if beside is not None:
        comparison = _done(compare, plan, console)
        _write(comparison.raw(), json_file, keep=keep)
        console.print(report.comparison_table(comparison))
        _conclude(comparison.failures, comparison.verdict, console)
    result = _done(run, plan, console)
    failed = failures(result, mix=expected_shares())
    _write(report.raw(result, failed), json_file, keep=keep)
    console.print(*report.tables(result))
    _conclude(failed, "all floors held", console)


def _names(given: str | None) -> tuple[str, ...] | None:
    """What a list with commas names; None if it was not given."""
    return None if given is None else tuple(name.strip() for name in given.split(",") if name.strip())


def _write(raw: Mapping[str, Any], json_file: Path | None, *, keep: bool) -> None:
    if json_file is not None:
        json_file.write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if keep:
        runs.save(raw, runs.RESULTS)
        runs.main()


def _conclude(failed: Sequence[str], passed: str, console: Console) -> NoReturn:
    for problem in failed:
        console.print(problem, style="red", markup=False)
    if not failed:
        console.print(passed, style="green", markup=False)
    raise typer.Exit(FAILED if failed else 0)


def _done(work: Callable[..., Coroutine[None, None, Done]], plan: Plan, console: Console) -> Done:
    started = monotonic()
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    try:
        return asyncio.run(
            _stoppable(work(plan, command=command, say=lambda text: _say(console, monotonic() - started, text)))
        )
    except asyncio.CancelledError:
        console.print("stopped")
    except (BenchError, PgbenchError, StackError, ConnectionError, TimeoutError) as error:
        console.print(str(error) or type(error).__name__, style="red", markup=False)
    raise typer.Exit(FAILED)


async def _stoppable(work: Coroutine[None, None, Done]) -> Done:
    """SIGINT and SIGTERM end the work in order, also where a shell in the background makes us ignore them."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _say(console: Console, seconds: float, text: str) -> None:
    console.print(f"{seconds:6.1f} s  {text}", markup=False)


if __name__ == "__main__":
    typer.run(bench)
