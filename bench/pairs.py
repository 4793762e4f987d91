"""Two revisions of the project next to each other: ratios of what each reached in the same rounds, and the verdict.

Neighbours in time are compared: each round gives one ratio an arm, and the median of the rounds' ratios counts. How far
it may be off is found by resampling the rounds (bootstrap). A ratio above one always means: the present revision is
better. CPU time a request is the steadier figure where other programs use the machine, too.
"""

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bench.gauges import Machine

AT_LEAST: Final = 0.97
"""What every arm must keep of the other revision's rate. Three runs of a revision next to itself differ by 1 to 2 %."""
RESAMPLES: Final = 2_000
OUTER_SHARE: Final = 0.05
"""How much of the resampled medians lies outside the spread, at either end."""
SEED: Final = 1


@dataclass(frozen=True)
class Sample:
    """One arm in one round, on one side."""

    arm: str
    round: int
    present: bool
    """Of the present revision; else of the one that it is compared with."""
    rate: float
    """Answers a second."""
    p50_ms: float
    p99_ms: float
    api_us: float
    """CPU time that a request takes of the API's process."""
    servers_us: float
    """CPU time that a request takes of the API, PostgreSQL, Neo4j and the relay, until the graph has all changes."""
    requests: int
    wrong: int
    wrong_shown: Sequence[str]


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and the spread of that median (90 %)."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Ratio":
        """Raises ValueError if there is no ratio."""
        if not ratios:
            raise ValueError("no round gave a ratio")
        dice = random.Random(SEED)  # noqa: S311 - it guards nothing
        medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
        outer = round(OUTER_SHARE * RESAMPLES)
        return cls(*(round(each, 4) for each in (statistics.median(ratios), medians[outer], medians[-1 - outer])))

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True)
class Compared:
    """An arm of both revisions: medians of the rounds, the present revision's first, and ratios."""

    arm: str
    rates: tuple[float, float]
    p99_ms: tuple[float, float]
    api_us: tuple[float, float]
    servers_us: tuple[float, float]
    rate: Ratio
    api_cpu: Ratio
    servers_cpu: Ratio

    @property
    def holds(self) -> bool:
        return self.rate.median >= AT_LEAST


@dataclass(frozen=True)
class Comparison:
    """A whole run."""

    at: str
    command: str
    commit: str
    revision: str
    """The one that was compared with, as it was asked for."""
    revision_commit: str
    machine: Machine
    plan: Mapping[str, object]
    samples: Sequence[Sample]

    @property
    def arms(self) -> list[Compared]:
        """In the order of the first round."""
        return [self._compared(arm) for arm in dict.fromkeys(sample.arm for sample in self.samples)]

    @property
    def verdict(self) -> str:
        """Whether every arm holds, or which do not."""
        short = [arm for arm in self.arms if not arm.holds]
        if not short:
            open_ = [f"{arm.arm} {arm.rate}" for arm in self.arms if arm.rate.low < AT_LEAST]
            noise = f"; more rounds may say otherwise of {', '.join(open_)}" if open_ else ""
            return f"every arm is at least {AT_LEAST} of {self.revision}{noise}"
        return f"under {AT_LEAST} of {self.revision}: {'; '.join(_shortcoming(arm) for arm in short)}"

    @property
    def failures(self) -> list[str]:
        """Why the run does not pass; empty if it does."""
        found = [] if all(arm.holds for arm in self.arms) else [self.verdict]
        for sample in self.samples:
            if sample.wrong:
                whose = "the present revision" if sample.present else self.revision
                shown = f"{sample.wrong} wrong answers of {sample.requests}, such as {sample.wrong_shown[0]}"
                found.append(f"{sample.arm}, round {sample.round + 1}, {whose}: {shown}")
        return found

    def raw(self) -> dict[str, object]:
        """All figures, for programs."""
        return {
            "kind": "comparison",
            **asdict(self),
            "arms": {arm.arm: asdict(arm) for arm in self.arms},
            "verdict": self.verdict,
            "failures": self.failures,
        }

    def _compared(self, arm: str) -> Compared:
        pairs = pairs_of(arm, self.samples)

        def medians(figure: Callable[[Sample], float]) -> tuple[float, float]:
            present, other = zip(*((figure(one), figure(two)) for one, two in pairs), strict=True)
            return round(statistics.median(present), 3), round(statistics.median(other), 3)

        def cost(figure: Callable[[Sample], float]) -> Ratio:
            return Ratio.of([figure(other) / figure(present) for present, other in pairs if figure(present)] or [1.0])

        return Compared(
            arm=arm,
            rates=medians(lambda sample: sample.rate),
            p99_ms=medians(lambda sample: sample.p99_ms),
            api_us=medians(lambda sample: sample.api_us),
            servers_us=medians(lambda sample: sample.servers_us),
            rate=Ratio.of([present.rate / other.rate for present, other in pairs if other.rate]),
            api_cpu=cost(lambda sample: sample.api_us),
            servers_cpu=cost(lambda sample: sample.servers_us),
        )


def pairs_of(arm: str, samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """What both revisions reached in each round, the present one first; rounds that only one ran are left out."""
    present, other = ({s.round: s for s in samples if s.arm == arm and s.present is side} for side in (True, False))
    return [(present[number], other[number]) for number in sorted(present) if number in other]


HEADINGS: Final = ("arm", "req/s", "rate (90 %)", "API µs/req", "API's CPU (90 %)", "all CPU (90 %)")
"""Figures of both revisions, the present one's first; then ratios, above 1 where the present revision is better."""


def rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The cells of the table."""
    return [
        (
            arm.arm,
            "{:,.0f} / {:,.0f}".format(*arm.rates),
            str(arm.rate),
            "{:.0f} / {:.0f}".format(*arm.api_us),
            str(arm.api_cpu),
            str(arm.servers_cpu),
        )
        for arm in comparison.arms
    ]


def _shortcoming(arm: Compared) -> str:
    noise = ", which noise may explain" if arm.rate.high >= AT_LEAST else ""
    return f"{arm.arm} {arm.rate}{noise}, by the API's CPU {arm.api_cpu}"
