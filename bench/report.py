"""A result in words: tables for a terminal and in Markdown, JSON for programs."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

from rich.table import Table

from bench.gauges import OTHERS
from bench.pairs import HEADINGS as COMPARISON_HEADINGS
from bench.pairs import Comparison
from bench.pairs import rows as comparison_rows
from bench.result import Figure, Lag, Measurement, Part, Result, ascending_seconds
from bench.verdict import RATIOS, Verdict, costs_us, shortfalls, verdicts


def tables(result: Result) -> list[Table]:
    """For a terminal: rates, processors, and what is judged."""
    rates = _table(RATE_HEADINGS, rate_rows(result))
    rates.title = f"medians of {_rounds(result)} interleaved rounds"
    processors = _table(processor_headings(result), processor_rows(result))
    parts = [_part_table(part) for part in result.parts]
    costs = _table(cost_headings(result), cost_rows(result))
    judged = [_table(VERDICT_HEADINGS, verdict_rows(result))]
    if missed := shortfall_rows(result):
        judged.append(_table(SHORTFALL_HEADINGS, missed))
    return [rates, processors, costs, *judged, *parts]


def comparison_table(comparison: Comparison) -> Table:
    """For a terminal: both revisions, arm by arm."""
    table = _table(COMPARISON_HEADINGS, comparison_rows(comparison))
    table.title = f"{comparison.commit} and {comparison.revision} ({comparison.revision_commit}): above 1 is better"
    return table


def _part_table(part: Part) -> Table:
    table = _table(PART_HEADINGS, part_rows(part))
    table.title = f"part: {part.name}"
    return table


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title_justify="left")
    for place, heading in enumerate(headings):
        words = place == 0 or headings is VERDICT_HEADINGS
        table.add_column(heading, justify="left" if words else "right")
    for row in rows:
        table.add_row(*row)
    return table


VERDICT_HEADINGS: Final = ("what", "reached", "floor", "target", "target reached")
RATE_HEADINGS: Final = (
    "arm",
    "req/s",
    "lowest",
    "highest",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "API MB",
    "generator µs/req",
    "graph lag p99 s",
)


def rate_rows(result: Result) -> list[tuple[str, ...]]:
    """The cells of the table."""
    rows: list[tuple[str, ...]] = []
    for arm in result.arms:
        measurements = result.of_arm(arm)
        rates = [measurement.rate for measurement in measurements]
        costs = [m.generator_cpu_us for m in measurements if m.generator_cpu_us is not None]
        rows.append((
            arm,
            f"{statistics.median(rates):,.0f}",
            f"{min(rates):,.0f}",
            f"{max(rates):,.0f}",
            f"{statistics.median(m.latency_ms['p50_ms'] for m in measurements):.2f}",
            f"{statistics.median(m.latency_ms['p99_ms'] for m in measurements):.2f}",
            f"{statistics.median(m.latency_ms['p999_ms'] for m in measurements):.2f}",
            f"{max(m.api_memory_mb for m in measurements):.0f}",
            f"{statistics.median(costs):.0f}" if costs else "",
            _or_nothing(result.lag.p99_seconds(arm)),
        ))  # fmt: skip
    return rows


def _or_nothing(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.2f}"


def processor_headings(result: Result) -> tuple[str, ...]:
    """Whose, then under which arm."""
    return ("processors in use", *result.arms)


def processor_rows(result: Result) -> list[tuple[str, ...]]:
    """How many processors each process used under each arm; the machine's others below them."""
    return [
        (name, *(f"{statistics.median(m.cores[name] for m in result.of_arm(arm)):.2f}" for arm in result.arms))
        for name in result.processes
    ]


def cost_headings(result: Result) -> tuple[str, ...]:
    """Whose, then under which arm."""
    return ("CPU of a request, µs", *result.arms)


def cost_rows(result: Result) -> list[tuple[str, ...]]:
    """What a request of each arm takes of each process, and of all but the machine's others."""
    costs = {arm: costs_us(result, arm) for arm in result.arms}
    rows = [(name, *(f"{costs[arm][name]:.0f}" for arm in result.arms)) for name in result.processes if name != OTHERS]
    return [*rows, ("all", *(f"{sum(costs[arm].values()):.0f}" for arm in result.arms))]


SHORTFALL_HEADINGS: Final = (
    "short of its target",
    "allows µs a request",
    "takes",
    "without the server asked",
    "allows that one, on a core",
    "leaves it, if no core rests",
    "it takes",
)


def shortfall_rows(result: Result) -> list[tuple[str, ...]]:
    """For each ratio that missed its target: the CPU that the target would leave, and what a request takes."""
    return [
        (
            f"{missed.ratio.name}, {missed.reached:.2f} of {missed.ratio.target:g}",
            *(f"{us:.0f}" for us in (missed.allowed_us, missed.taken_us, missed.others_us)),
            *(f"{us:.0f}" for us in (missed.server_allowed_us, missed.left_us, missed.server_us)),
        )
        for missed in shortfalls(result)
    ]


def verdict_rows(result: Result) -> list[tuple[str, ...]]:
    """What, reached, floor, target, and whether the target was reached."""
    return [
        (verdict.what, verdict.words, str(verdict.floor or ""), str(verdict.target or ""), _yes_or_no(verdict))
        for verdict in verdicts(result)
    ]


PART_HEADINGS: Final = ("what", "measured", "target", "met")
MOMENT_HEADINGS: Final = ("after s", "req/s", "p50 ms", "p99 ms", "graph lag p99 s", "API MB", "others' processors")


def part_rows(part: Part) -> list[tuple[str, ...]]:
    """What a part measured."""
    return [(figure.what, f"{figure.value:,.10g} {figure.unit}", *_target(figure)) for figure in part.figures]


def _target(figure: Figure) -> tuple[str, str]:
    if figure.at_most is not None:
        return f"at most {figure.at_most:g}", "yes" if figure.value <= figure.at_most else "no"
    if figure.at_least is not None:
        return f"at least {figure.at_least:g}", "yes" if figure.value >= figure.at_least else "no"
    return "", ""


def moment_rows(part: Part) -> list[tuple[str, ...]]:
    """How a long load stood over time."""
    return [
        (
            f"{moment.at_seconds:.0f}",
            f"{moment.rate:,.0f}",
            f"{moment.p50_ms:.2f}",
            f"{moment.p99_ms:.2f}",
            "" if moment.lag_p99_seconds is None else f"{moment.lag_p99_seconds:.2f}",
            f"{moment.api_memory_mb:.0f}",
            f"{moment.others_processors:.2f}",
        )
        for moment in part.moments
    ]


def _shortfall_lines(result: Result) -> list[str]:
    rows = shortfall_rows(result)
    return ["", *_markdown_table(SHORTFALL_HEADINGS, rows)] if rows else []


def _part_lines(part: Part) -> list[str]:
    lines = ["", f"Part `{part.name}`:", "", *_markdown_table(PART_HEADINGS, part_rows(part))]
    return [*lines, "", *_markdown_table(MOMENT_HEADINGS, moment_rows(part))] if part.moments else lines


def _yes_or_no(verdict: Verdict) -> str:
    return {True: "yes", False: "no", None: ""}[verdict.meets_target]


def markdown(result: Result, failed: Sequence[str]) -> str:
    """All tables, for people who read the JSON of a run."""
    machine, servers = result.machine, result.servers
    settings = ", ".join(f"{name}={servers[name]}" for name in DURABILITY)
    said = "All floors held." if not failed else "**Missed:** " + "; ".join(failed) + "."
    lines = [
        f"## {result.at}, commit {result.commit}",
        "",
        f"`{result.command}`",
        "",
        f"- Machine: {machine.cpu}, {machine.memory_gib:g} GiB, {machine.system}; data on {machine.disk}.",
        f"- {machine.cores} cores, which the servers and the load generator share.",
        f"- Python {machine.python}, PostgreSQL {servers['postgres']}, {servers['neo4j']}.",
        f"- Commits: {settings}.",
        f"- {_rounds(result)} interleaved rounds of {result.plan['seconds']:g} s an arm.",
        f"- {result.plan['clients']} closed-loop clients; {result.plan['people']:,} people loaded before.",
        *(f"- Left out: `{arm}`, for {reason}." for arm, reason in result.skipped.items()),
        "",
        *_markdown_table(RATE_HEADINGS, rate_rows(result)),
        "",
        *_markdown_table(processor_headings(result), processor_rows(result)),
        "",
        *_markdown_table(cost_headings(result), cost_rows(result)),
        "",
        *_markdown_table(VERDICT_HEADINGS, verdict_rows(result)),
        *_shortfall_lines(result),
        *(line for part in result.parts for line in _part_lines(part)),
        "",
        said,
    ]
    return "\n".join(lines) + "\n"


def raw(result: Result, failed: Sequence[str]) -> dict[str, object]:
    """All figures, for programs."""
    ratios = {ratio.name: result.ratio(ratio.numerator, ratio.denominator) for ratio in RATIOS}
    judged = [
        {
            "what": verdict.what,
            "reached": verdict.value,
            "floor": None if verdict.floor is None else str(verdict.floor),
            "target": None if verdict.target is None else str(verdict.target),
            "target_reached": verdict.meets_target,
        }
        for verdict in verdicts(result)
    ]
    return {
        "kind": "run",
        **asdict(replace(result, lag=Lag((), ()))),
        "lag": {arm: _lag(result, arm) for arm in result.arms},
        "arms": {arm: _arm(result.of_arm(arm)) for arm in result.arms},
        "ratios": ratios,
        "verdicts": judged,
        "failures": list(failed),
        "report": markdown(result, failed).splitlines(),
    }


def _lag(result: Result, arm: str) -> dict[str, object]:
    p99 = result.lag.p99_seconds(arm)
    looks = (result.lag.outbox_ages, result.lag.probe_lags)
    return {
        "p99_seconds": None if math.isnan(p99) else round(p99, 3),
        "looks": sum(len(ascending_seconds(look, arm)) for look in looks),
    }


def _arm(measurements: Sequence[Measurement]) -> dict[str, float]:
    """The medians of its rounds, and how far the rounds were apart."""
    rates = [measurement.rate for measurement in measurements]
    latencies = {
        name: round(statistics.median(each.latency_ms[name] for each in measurements), 3)
        for name in ("p50_ms", "p99_ms", "p999_ms")
    }
    return {"rate": statistics.median(rates), "lowest": min(rates), "highest": max(rates), **latencies}


DURABILITY: Final = ("fsync", "synchronous_commit", "full_page_writes")


def _rounds(result: Result) -> int:
    return len({measurement.round for measurement in result.measurements})


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]
