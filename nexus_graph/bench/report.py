"""The arithmetic and the words of a result: rates, medians, ratios, floors."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from rich.table import Table

from nexus_graph.bench.lag import Sight
from nexus_graph.bench.load import Load
from nexus_graph.bench.machine import Machine

PERCENTILES: Final = {"p50_ms": 0.50, "p90_ms": 0.90, "p99_ms": 0.99, "p999_ms": 0.999}


@dataclass(frozen=True)
class Ratio:
    """One arm's rate over another's; `floor` is what it must reach, None where it is only told."""

    numerator: str
    denominator: str
    floor: float | None = None

    @property
    def name(self) -> str:
        return f"{self.numerator} / {self.denominator}"


RATIOS: Final = (
    Ratio("rest", "pgbench", floor=0.7),
    Ratio("graphql", "rest", floor=0.4),
    Ratio("rest", "echo"),
    Ratio("family", "rest"),
)
LAG_P99_MAX_SECONDS: Final = 1.0
SHARE_TOLERANCE: Final = 0.04
"""How far the kinds of requests, as the database saw them, may be from the mix."""


@dataclass(frozen=True)
class Measurement:
    """One arm in one round."""

    arm: str
    round: int
    rate: float
    """Answers a second."""
    latency_ms: Mapping[str, float]
    requests: int
    wrong: int
    wrong_shown: Sequence[str]
    generator_cpu_us: float | None
    """What a request costs the load generator."""
    cores: Mapping[str, float] = field(default_factory=dict)
    """Processors in use on average, by process."""
    outcomes: Mapping[str, float] = field(default_factory=dict)
    """Shares of the outcomes, by the record's events; empty for arms that only read."""

    @classmethod
    def of(
        cls, arm: str, round_: int, load: Load, *, cores: Mapping[str, float], outcomes: Mapping[str, float]
    ) -> "Measurement":
        """What a load comes to."""
        latencies = sorted(load.latencies)
        latency_ms = {name: round(quantile(latencies, share) * 1000, 3) for name, share in PERCENTILES.items()}
        answers = len(latencies)
        cpu = None if load.cpu_seconds is None or not answers else round(load.cpu_seconds / answers * 1e6, 1)
        return cls(
            arm=arm,
            round=round_,
            rate=round(answers / load.seconds, 1),
            latency_ms=latency_ms,
            requests=load.requests,
            wrong=load.wrong,
            wrong_shown=load.wrong_shown,
            generator_cpu_us=cpu,
            cores=cores,
            outcomes=outcomes,
        )


@dataclass(frozen=True)
class Lag:
    """How far the graph was behind while arms wrote, by two independent looks."""

    outbox_ages: Sequence[Sight]
    probe_lags: Sequence[Sight]

    def p99_seconds(self, arm: str | None = None) -> float:
        """The worse of the two, under one arm or all; NaN if neither saw anything."""
        looks = [_seconds(sights, arm) for sights in (self.outbox_ages, self.probe_lags)]
        return max((quantile(look, 0.99) for look in looks if look), default=math.nan)


@dataclass(frozen=True)
class Result:
    """A whole run."""

    at: str
    command: str
    commit: str
    machine: Machine
    servers: Mapping[str, str]
    """Versions, and the settings that make commits durable."""
    plan: Mapping[str, object]
    measurements: Sequence[Measurement]
    lag: Lag
    drained: bool
    drift: int
    """Families that differ between the stores after the run."""

    @property
    def arms(self) -> list[str]:
        """In the order of the first round."""
        return list(dict.fromkeys(measurement.arm for measurement in self.measurements))

    def of_arm(self, arm: str) -> list[Measurement]:
        """Its measurements, by round."""
        return sorted((m for m in self.measurements if m.arm == arm), key=lambda m: m.round)

    def ratio(self, ratio: Ratio) -> float | None:
        """The median of the rounds' ratios; None if an arm did not run, or did nothing."""
        pairs = zip(self.of_arm(ratio.numerator), self.of_arm(ratio.denominator), strict=False)
        ratios = [above.rate / below.rate for above, below in pairs if below.rate]
        return statistics.median(ratios) if ratios else None


def quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all do not exceed (nearest rank); NaN if there is none."""
    if not ascending:
        return math.nan
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _seconds(sights: Sequence[Sight], arm: str | None = None) -> list[float]:
    """Ascending."""
    return sorted(sight.seconds for sight in sights if arm in {None, sight.arm})


def failures(result: Result, *, mix: Mapping[str, float]) -> list[str]:
    """Why this run does not pass; empty if it does. `mix`: the share each outcome should have."""
    return [*_missed_floors(result), *_wrong_work(result, mix)]


def _missed_floors(result: Result) -> list[str]:
    missed = []
    for ratio in RATIOS:
        reached = result.ratio(ratio)
        if ratio.floor is not None and reached is not None and reached < ratio.floor:
            missed.append(f"{ratio.name} is {reached:.2f}, below its floor of {ratio.floor:g}")
    if result.lag.p99_seconds() >= LAG_P99_MAX_SECONDS:
        missed.append(f"relay lag p99 is {result.lag.p99_seconds():.2f} s, not under {LAG_P99_MAX_SECONDS:g} s")
    if not result.drained:
        missed.append("the relay did not work off the outbox after the run")
    if result.drift:
        missed.append(f"drift: {result.drift} families differ between the record and the graph")
    return missed


def _wrong_work(result: Result, mix: Mapping[str, float]) -> list[str]:
    wrong = []
    for arm in result.arms:
        measurements = result.of_arm(arm)
        count = sum(measurement.wrong for measurement in measurements)
        if count:
            shown = next(text for measurement in measurements for text in measurement.wrong_shown)
            wrong.append(f"{arm}: {count} wrong answers, such as {shown}")
        for outcome, share in mix.items():
            shares = [measurement.outcomes[outcome] for measurement in measurements if measurement.outcomes]
            if shares and abs(statistics.median(shares) - share) > SHARE_TOLERANCE:
                wrong.append(f"{arm}: {statistics.median(shares):.0%} of its requests were {outcome}, not {share:.0%}")
    return wrong


def tables(result: Result) -> list[Table]:
    """For a terminal: rates, processors, and what is judged."""
    rates = _table(RATE_HEADINGS, rate_rows(result))
    rates.title = f"medians of {_rounds(result)} interleaved rounds"
    processors = _table(processor_headings(result), processor_rows(result))
    return [rates, processors, _table(VERDICT_HEADINGS, verdict_rows(result))]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title_justify="left")
    for place, heading in enumerate(headings):
        words = place == 0 or headings is VERDICT_HEADINGS
        table.add_column(heading, justify="left" if words else "right")
    for row in rows:
        table.add_row(*row)
    return table


VERDICT_HEADINGS: Final = ("what", "reached", "floor")
RATE_HEADINGS: Final = ("arm", "req/s", "lowest", "highest", "p50 ms", "p99 ms", "generator µs/req", "graph lag p99 s")


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
    """How many processors each process used under each arm; the machine's others beside them."""
    return [
        (name, *(f"{statistics.median(m.cores[name] for m in result.of_arm(arm)):.2f}" for arm in result.arms))
        for name in result.measurements[0].cores
    ]


def verdict_rows(result: Result) -> list[tuple[str, str, str]]:
    """(what, reached, floor) for everything that is judged or told."""
    rows = []
    for ratio in RATIOS:
        reached = result.ratio(ratio)
        floor = "" if ratio.floor is None else f"at least {ratio.floor:g}"
        rows.append((ratio.name, "not measured" if reached is None else f"{reached:.2f}", floor))
    lag = result.lag
    probes, ages = _seconds(lag.probe_lags), _seconds(lag.outbox_ages)
    seen = f"p50 {quantile(probes, 0.5):.3f} s, p99 {quantile(probes, 0.99):.3f} s of {len(probes)}"
    rows.append(("relay lag: probes, write to graph", seen, f"p99 under {LAG_P99_MAX_SECONDS:g} s"))
    seen = f"p50 {quantile(ages, 0.5):.3f} s, p99 {quantile(ages, 0.99):.3f} s of {len(ages)}"
    rows.append(("relay lag: oldest row of the outbox", seen, f"p99 under {LAG_P99_MAX_SECONDS:g} s"))
    rows.append(("drift after the run", str(result.drift), "0"))
    return rows


def markdown(result: Result, failed: Sequence[str]) -> str:
    """A dated section for docs/benchmarks.md."""
    machine, servers = result.machine, result.servers
    settings = ", ".join(f"{name}={servers[name]}" for name in DURABILITY)
    verdict = "All floors held." if not failed else "**Missed:** " + "; ".join(failed) + "."
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
        "",
        *_markdown_table(RATE_HEADINGS, rate_rows(result)),
        "",
        *_markdown_table(processor_headings(result), processor_rows(result)),
        "",
        *_markdown_table(VERDICT_HEADINGS, verdict_rows(result)),
        "",
        verdict,
    ]
    return "\n".join(lines) + "\n"


def raw(result: Result, failed: Sequence[str]) -> dict[str, object]:
    """All figures, for programs."""
    ratios = {ratio.name: result.ratio(ratio) for ratio in RATIOS}
    return {**asdict(result), "ratios": ratios, "failures": list(failed)}


DURABILITY: Final = ("fsync", "synchronous_commit", "full_page_writes")


def _rounds(result: Result) -> int:
    return len({measurement.round for measurement in result.measurements})


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]
