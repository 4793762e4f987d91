"""What a run came to: rates, latencies, lag; and the arithmetic of medians and ratios."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.gauges import Machine, Sight
from bench.load.loops import Load

PERCENTILES: Final = {"p50_ms": 0.50, "p90_ms": 0.90, "p99_ms": 0.99, "p999_ms": 0.999}


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
    api_memory_mb: float = 0.0
    """The most that the API's process held (RSS)."""
    lateness_ms: Mapping[str, float] = field(default_factory=dict)
    """How much later than due an open load sent its requests; their latencies count that. Empty for closed loops."""

    @classmethod
    def of(
        cls,
        arm: str,
        round_: int,
        load: Load,
        *,
        cores: Mapping[str, float],
        outcomes: Mapping[str, float],
        api_memory_mb: float = 0.0,
    ) -> "Measurement":
        """What a load comes to."""
        answers = len(load.latencies)
        cpu = None if load.cpu_seconds is None or not answers else round(load.cpu_seconds / answers * 1e6, 1)
        return cls(
            arm=arm,
            round=round_,
            rate=load.rate,
            latency_ms=percentiles_ms(load.latencies),
            requests=load.requests,
            wrong=load.wrong,
            wrong_shown=load.wrong_shown,
            generator_cpu_us=cpu,
            cores=cores,
            outcomes=outcomes,
            api_memory_mb=api_memory_mb,
            lateness_ms=percentiles_ms(load.lateness) if load.lateness else {},
        )


@dataclass(frozen=True)
class Lag:
    """How far the graph was behind while arms wrote, by two independent looks."""

    outbox_ages: Sequence[Sight]
    probe_lags: Sequence[Sight]

    def p99_seconds(self, arm: str | None = None) -> float:
        """The worse of the two, under one arm or all; NaN if neither saw anything."""
        looks = [ascending_seconds(sights, arm) for sights in (self.outbox_ages, self.probe_lags)]
        return max((quantile(look, 0.99) for look in looks if look), default=math.nan)


@dataclass(frozen=True)
class Figure:
    """Something that a part measured."""

    what: str
    value: float
    unit: str
    at_most: float | None = None
    """The target, if there is one from above."""
    at_least: float | None = None
    """The target, if there is one from below."""


@dataclass(frozen=True)
class Moment:
    """How a long load stood, some seconds after it began."""

    at_seconds: float
    rate: float
    p50_ms: float
    p99_ms: float
    lag_p99_seconds: float | None
    """None where it was not seen."""
    api_memory_mb: float
    others_processors: float
    """How many processors were in use by what is not ours: it explains most ups and downs."""


@dataclass(frozen=True)
class Part:
    """What ran by itself after the rounds."""

    name: str
    figures: Sequence[Figure]
    moments: Sequence[Moment] = ()
    problems: Sequence[str] = ()
    """Why the run does not pass."""


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
    skipped: Mapping[str, str]
    """Arms that could not run here, and why."""
    lag: Lag
    drained: bool
    drift: int
    """Families that differ between the stores after the rounds."""
    original_faults: Mapping[str, int] = field(default_factory=dict)
    """What concurrency broke in the databases of the original design, by arm."""
    parts: Sequence[Part] = ()

    @property
    def arms(self) -> list[str]:
        """In the order of the first round."""
        return list(dict.fromkeys(measurement.arm for measurement in self.measurements))

    @property
    def processes(self) -> list[str]:
        """Those whose use of processors was seen, by name."""
        return list(self.measurements[0].cores) if self.measurements else []

    def of_arm(self, arm: str) -> list[Measurement]:
        """Its measurements, by round."""
        return sorted((m for m in self.measurements if m.arm == arm), key=lambda m: m.round)

    def ratio(self, numerator: str, denominator: str) -> float | None:
        """The median of the rounds' ratios of rates; None if an arm did not run, or did nothing."""
        pairs = zip(self.of_arm(numerator), self.of_arm(denominator), strict=False)
        ratios = [above.rate / below.rate for above, below in pairs if below.rate]
        return statistics.median(ratios) if ratios else None

    def rate(self, arm: str) -> float | None:
        """The median of its rounds; None if it did not run."""
        rates = [measurement.rate for measurement in self.of_arm(arm)]
        return statistics.median(rates) if rates else None

    def latency_ms(self, arm: str, percentile: str) -> float | None:
        """The median of the rounds' latencies at a percentile, such as "p99_ms"; None if the arm did not run."""
        latencies = [measurement.latency_ms[percentile] for measurement in self.of_arm(arm)]
        return statistics.median(latencies) if latencies else None

    @property
    def api_memory_mb(self) -> float | None:
        """The most that the API's process held under any load; None if nothing ran."""
        seen = [measurement.api_memory_mb for measurement in self.measurements]
        seen += [moment.api_memory_mb for part in self.parts for moment in part.moments]
        return max(seen, default=None)

    def lateness_ms(self, arm: str, percentile: str) -> float | None:
        """How much later than due an open load's requests were sent, as `latency_ms`; None if it did not run."""
        late = [measurement.lateness_ms[percentile] for measurement in self.of_arm(arm) if measurement.lateness_ms]
        return statistics.median(late) if late else None


def quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all do not exceed (nearest rank); NaN if there is none."""
    if not ascending:
        return math.nan
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def ascending_seconds(sights: Sequence[Sight], arm: str | None = None) -> list[float]:
    """How late the graph was, under one arm or all."""
    return sorted(sight.seconds for sight in sights if arm in {None, sight.arm})


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    ascending = sorted(seconds)
    return {name: round(quantile(ascending, share) * 1000, 3) for name, share in PERCENTILES.items()}
