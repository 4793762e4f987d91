"""What a request costs in CPU, and how much of it a target that was missed would allow: why it was missed."""

import statistics
from dataclasses import dataclass

from bench.load import server_of
from bench.machine import OTHERS
from bench.result import Result
from bench.verdict import RATIOS, Ratio


@dataclass(frozen=True)
class Shortfall:
    """A ratio below its target. All figures are of the arm above, in microseconds of CPU a request."""

    ratio: Ratio
    reached: float
    allowed_us: float
    """At the target's rate, with as many processors in use as were."""
    taken_us: float
    beside_us: float
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
    core, beside = 1e6 / wanted, taken - server
    left = result.machine.cores * core - beside
    return Shortfall(ratio, reached, taken * rate / wanted, taken, beside, core, left, server)
