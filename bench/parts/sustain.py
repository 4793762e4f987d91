"""The part `sustain`: the REST load for minutes without a pause, and how rate, lag and memory stand over that time."""

import statistics
from dataclasses import dataclass
from typing import Final

from bench.gauges import OTHERS, MemoryWatch, Sight
from bench.result import Figure, Moment, Part, ascending_seconds, percentiles_ms, quantile
from bench.stack import DRAIN_SECONDS, Running

NAME: Final = "sustain"
SLICE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class _Slice:
    moment: Moment
    sights: list[Sight]
    wrong: int
    wrong_shown: list[str]


async def sustain(bench: Running) -> Part:
    """The load is measured in slices that follow each other at once; nothing is drained between them."""
    slices: list[_Slice] = []
    bench.watch.arm = NAME
    count = max(1, round(bench.plan.sustain_seconds / SLICE_SECONDS))
    for number in range(count):
        slices.append(await _slice(bench, number, min(SLICE_SECONDS, bench.plan.sustain_seconds)))
        moment = slices[-1].moment
        bench.say(f"{NAME}  {moment.at_seconds:4.0f} s  {moment.rate:,.0f} req/s, API {moment.api_memory_mb:.0f} MB")
    bench.watch.arm = None
    drained = await bench.drained(timeout_seconds=DRAIN_SECONDS)
    drift = await bench.drift()
    return Part(NAME, _figures(slices, drift), [each.moment for each in slices], _problems(slices, drift, drained))


async def _slice(bench: Running, number: int, seconds: float) -> _Slice:
    watch = bench.watch
    ages, probes = len(watch.outbox_ages), len(watch.probe_lags)
    bench.processors.in_use()
    async with MemoryWatch(bench.stack.process("api").pid) as memory:
        load = await bench.load("rest", number, seconds=seconds, warmup_seconds=0.0)
    looks = [watch.outbox_ages[ages:], watch.probe_lags[probes:]]
    latency_ms = percentiles_ms(load.latencies)
    moment = Moment(
        at_seconds=(number + 1) * seconds,
        rate=load.rate,
        p50_ms=latency_ms["p50_ms"],
        p99_ms=latency_ms["p99_ms"],
        lag_p99_seconds=_worst_p99(looks),
        api_memory_mb=memory.highest_mb,
        others_processors=bench.processors.in_use()[OTHERS],
    )
    return _Slice(moment, [sight for look in looks for sight in look], load.wrong, list(load.wrong_shown))


def _figures(slices: list[_Slice], drift: int) -> list[Figure]:
    moments = [each.moment for each in slices]
    seconds = ascending_seconds([sight for each in slices for sight in each.sights])
    return [
        Figure("how long", moments[-1].at_seconds, "s"),
        Figure("rate, median of slices", round(statistics.median(moment.rate for moment in moments), 1), "req/s"),
        Figure("rate, first slice", moments[0].rate, "req/s"),
        Figure("rate, last slice", moments[-1].rate, "req/s"),
        Figure("p99 latency, median of slices", round(statistics.median(moment.p99_ms for moment in moments), 2), "ms"),
        Figure("relay lag p99", round(quantile(seconds, 0.99), 3), "s"),
        Figure("API memory after the first slice", moments[0].api_memory_mb, "MB"),
        Figure("API memory at most", max(moment.api_memory_mb for moment in moments), "MB"),
        Figure("drift afterwards", drift, "families"),
    ]


def _problems(slices: list[_Slice], drift: int, drained: bool) -> list[str]:  # noqa: FBT001
    problems = []
    if wrong := sum(each.wrong for each in slices):
        shown = next(text for each in slices for text in each.wrong_shown)
        problems.append(f"{NAME}: {wrong} wrong answers, such as {shown}")
    if not drained:
        problems.append(f"{NAME}: the relay did not work off the outbox afterwards")
    if drift:
        problems.append(f"{NAME}: {drift} families differ between the record and the graph")
    return problems


def _worst_p99(looks: list[list[Sight]]) -> float | None:
    return max((round(quantile(ascending_seconds(look), 0.99), 3) for look in looks if look), default=None)
