"""What a result is held against: floors, which decide whether the run passes, and targets, which are reported.

Of a target that was missed: what a request costs in CPU, and how much of that the target would allow.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.gauges import OTHERS
from bench.load.generator import server_of
from bench.result import Result, ascending_seconds, quantile

SHARE_TOLERANCE: Final = 0.04
"""How far the kinds of requests, as the database saw them, may be from the mix."""


@dataclass(frozen=True)
class AtLeast:
    """A bound from below."""

    limit: float

    def holds(self, value: float) -> bool:
        return value >= self.limit

    def __str__(self) -> str:
        return f"at least {self.limit:g}"


@dataclass(frozen=True)
class Under:
    """A bound from above, itself excluded."""

    limit: float
    unit: str = ""

    def holds(self, value: float) -> bool:
        return value < self.limit

    def __str__(self) -> str:
        return f"under {self.limit:g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Exactly:
    """One value."""

    limit: float

    def holds(self, value: float) -> bool:
        return value == self.limit

    def __str__(self) -> str:
        return f"{self.limit:g}"


Bound = AtLeast | Under | Exactly


@dataclass(frozen=True)
class Verdict:
    """One figure, and what it is held against."""

    what: str
    value: float | None
    """None where it was not measured."""
    words: str
    """The value in words."""
    floor: Bound | None = None
    target: Bound | None = None

    @property
    def misses_floor(self) -> bool:
        return self.floor is not None and self.value is not None and not self.floor.holds(self.value)

    @property
    def meets_target(self) -> bool | None:
        """None where there is no target, or nothing was measured."""
        return None if self.target is None or self.value is None else self.target.holds(self.value)


@dataclass(frozen=True)
class Ratio:
    """One arm's rate over another's."""

    numerator: str
    denominator: str
    floor: float | None = None
    target: float | None = None

    @property
    def name(self) -> str:
        return f"{self.numerator} / {self.denominator}"


RATIOS: Final = (
    Ratio("rest", "pgbench", floor=0.7, target=2.5),
    Ratio("rest", "express", target=5),
    Ratio("rest", "express_plain"),
    Ratio("rest", "echo", target=0.5),
    Ratio("graphql", "rest", floor=0.4, target=0.6),
    Ratio("known", "echo", target=0.7),
    Ratio("rest_guarded", "rest", target=0.85),
    Ratio("known_guarded", "known", target=0.85),
    Ratio("family", "family_alone", target=4),
    Ratio("family", "typename_sized", target=0.6),
    Ratio("family_cached", "typename_sized", target=0.75),
    Ratio("family", "driver"),
    Ratio("family", "rest"),
)
OPEN_TARGETS_MS: Final = {"p50_ms": ("p50", 5), "p99_ms": ("p99", 20), "p999_ms": ("p99.9", 50)}
UNSAFE_ARMS: Final = frozenset({"express_plain"})
"""Their wrong answers are reported, and fail nothing: they are what the arm shows."""
LAG: Final = Under(1, "s")
API_MEMORY: Final = Under(200, "MB")
NOT_MEASURED: Final = "not measured"


def verdicts(result: Result) -> list[Verdict]:
    """Everything that is judged or reported, but for arms that were not asked for."""
    return [*_ratios(result), *_open_latencies(result), *_graph(result), _memory(result), *_original(result)]


def failures(result: Result, *, mix: Mapping[str, float]) -> list[str]:
    """Why this run does not pass; empty if it does. `mix`: the share each outcome should have."""
    missed = [f"{v.what} is {v.words}, not {v.floor}" for v in verdicts(result) if v.misses_floor]
    if not result.drained:
        missed.append("the relay did not work off the outbox after the run")
    return [*missed, *_wrong_work(result, mix), *(problem for part in result.parts for problem in part.problems)]


def _ratios(result: Result) -> list[Verdict]:
    return [_ratio(result, ratio) for ratio in RATIOS]


def _ratio(result: Result, ratio: Ratio) -> Verdict:
    reached = result.ratio(ratio.numerator, ratio.denominator)
    return Verdict(
        ratio.name,
        reached,
        NOT_MEASURED if reached is None else f"{reached:.2f}",
        floor=None if ratio.floor is None else AtLeast(ratio.floor),
        target=None if ratio.target is None else AtLeast(ratio.target),
    )


def _open_latencies(result: Result) -> list[Verdict]:
    rate = result.plan["open_rate"]
    found = []
    for percentile, (name, target_ms) in OPEN_TARGETS_MS.items():
        reached = result.latency_ms("open", percentile)
        words = NOT_MEASURED if reached is None else f"{reached:.2f} ms"
        found.append(Verdict(f"open, {rate:,.0f} req/s: {name}", reached, words, target=Under(target_ms, "ms")))
    late = result.lateness_ms("open", "p99_ms")
    words = NOT_MEASURED if late is None else f"{late:.2f} ms"
    return [*found, Verdict("open: of which the generator sent late, p99", late, words)]


def _graph(result: Result) -> list[Verdict]:
    looks = {
        "relay lag p99: probes, write to graph": result.lag.probe_lags,
        "relay lag p99: oldest row of the outbox": result.lag.outbox_ages,
    }
    found = []
    for what, sights in looks.items():
        seconds = ascending_seconds(sights)
        median, late = quantile(seconds, 0.5), quantile(seconds, 0.99)
        words = f"{late:.3f} s of {len(seconds)} (p50 {median:.3f} s)" if seconds else NOT_MEASURED
        found.append(Verdict(what, None if math.isnan(late) else late, words, floor=LAG, target=LAG))
    drift = Verdict("drift after the run", result.drift, f"{result.drift} families", Exactly(0), Exactly(0))
    return [*found, drift]


def _memory(result: Result) -> Verdict:
    reached = result.api_memory_mb
    words = NOT_MEASURED if reached is None else f"{reached:.0f} MB"
    return Verdict("memory of the API's process, at most", reached, words, target=API_MEMORY)


def _original(result: Result) -> list[Verdict]:
    found = []
    for arm, faults in result.original_faults.items():
        wrong = sum(measurement.wrong for measurement in result.of_arm(arm))
        words = f"{faults} contacts and identifiers, {wrong} wrong answers"
        found.append(Verdict(f"what concurrency broke in {arm}", faults, words))
    return found


def _wrong_work(result: Result, mix: Mapping[str, float]) -> Sequence[str]:
    wrong = []
    for arm in result.arms:
        measurements = result.of_arm(arm)
        count = sum(measurement.wrong for measurement in measurements)
        if count and arm not in UNSAFE_ARMS:
            shown = next(text for measurement in measurements for text in measurement.wrong_shown)
            wrong.append(f"{arm}: {count} wrong answers, such as {shown}")
        for outcome, share in mix.items():
            shares = [measurement.outcomes[outcome] for measurement in measurements if measurement.outcomes]
            if shares and abs(statistics.median(shares) - share) > SHARE_TOLERANCE:
                wrong.append(f"{arm}: {statistics.median(shares):.0%} of its requests were {outcome}, not {share:.0%}")
    return wrong


@dataclass(frozen=True)
class Shortfall:
    """A ratio below its target. All figures are of the arm above, in microseconds of CPU a request."""

    ratio: Ratio
    reached: float
    allowed_us: float
    """At the target's rate, with as many processors in use as were."""
    taken_us: float
    others_us: float
    """Of that, by all but the server that is asked."""
    server_allowed_us: float
    """By that server at the target's rate, as it is one process on one core."""
    left_us: float
    """To that server at that rate, if no core ever rested. Below nothing where the others take more than there is."""
    server_us: float


def costs_us(result: Result, arm: str) -> dict[str, float]:
    """What a request of the arm takes of each process: medians of the rounds."""
    rounds = [measurement for measurement in result.of_arm(arm) if measurement.rate]
    return {
        name: statistics.median(measurement.cores[name] / measurement.rate * 1e6 for measurement in rounds)
        for name in result.processes
        if rounds and name != OTHERS
    }


def shortfalls(result: Result) -> list[Shortfall]:
    """Why each ratio that missed its target did."""
    return [missed for ratio in RATIOS if (missed := _shortfall(result, ratio)) is not None]


def _shortfall(result: Result, ratio: Ratio) -> Shortfall | None:
    reached, base = result.ratio(ratio.numerator, ratio.denominator), result.rate(ratio.denominator)
    if ratio.target is None or reached is None or not base or reached >= ratio.target:
        return None
    costs = costs_us(result, ratio.numerator)
    taken, server = sum(costs.values()), costs.get(server_of(ratio.numerator), 0.0)
    rate = result.rate(ratio.numerator) or 0.0
    wanted = ratio.target * base
    core, others = 1e6 / wanted, taken - server
    left = result.machine.cores * core - others
    return Shortfall(ratio, reached, taken * rate / wanted, taken, others, core, left, server)
