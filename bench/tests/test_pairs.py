"""The arithmetic by which two revisions are compared."""

import json
import random
from collections.abc import Sequence

import pytest

from bench.gauges import Machine
from bench.pairs import AT_LEAST, Comparison, Ratio, Sample, pairs_of, rows
from bench.plan import COMPARISON, BenchError, Plan
from bench.report import comparison_table


def _sample(arm: str, number: int, rate: float, *, present: bool, api_us: float = 50.0, wrong: int = 0) -> Sample:
    return Sample(
        arm=arm,
        round=number,
        present=present,
        rate=rate,
        p50_ms=1.0,
        p99_ms=2.0,
        api_us=api_us,
        servers_us=4 * api_us,
        requests=100,
        wrong=wrong,
        wrong_shown=("this one",) * wrong,
    )


def _pair(arm: str, number: int, present: float, other: float) -> list[Sample]:
    return [_sample(arm, number, present, present=True), _sample(arm, number, other, present=False)]


def _comparison(samples: Sequence[Sample]) -> Comparison:
    return Comparison(
        at="2026-01-02 03:04 UTC",
        command="python -m bench --beside v1",
        commit="0123456789",
        revision="v1",
        revision_commit="9876543210",
        machine=Machine("a processor", 2, 23.5, "Linux 6", "3.11.7", "ext4, 0.50 ms a sync"),
        plan={"rounds": 3},
        samples=samples,
    )


def test_a_ratio_is_the_median_of_rounds_whatever_the_machine_did_between_them() -> None:
    # Other programs took half of the machine in the second round: the medians' ratio would be 1000 / 550.
    samples = [*_pair("rest", 0, 1000, 1000), *_pair("rest", 1, 550, 500), *_pair("rest", 2, 1100, 1000)]
    (arm,) = _comparison(samples).arms
    assert arm.rate.median == 1.1
    assert arm.rates == (1000, 1000)


def test_the_spread_holds_the_median_and_narrows_with_rounds() -> None:
    dice = random.Random(5)
    ratios = [dice.gauss(1.0, 0.05) for _ in range(100)]
    few, many = Ratio.of(ratios[:8]), Ratio.of(ratios)
    for ratio in (few, many):
        assert ratio.low <= ratio.median <= ratio.high
    assert many.high - many.low < few.high - few.low
    assert Ratio.of(ratios) == many, "the same rounds give the same spread"


def test_one_wild_round_moves_neither_the_median_nor_the_verdict() -> None:
    samples = [sample for number in range(11) for sample in _pair("rest", number, 1000, 1000)]
    wild = [*samples, *_pair("rest", 11, 10, 1000)]
    assert _comparison(wild).arms[0].rate.median == 1.0
    assert _comparison(wild).failures == []


def test_no_round_is_no_ratio() -> None:
    with pytest.raises(ValueError, match="no round"):
        Ratio.of([])


def test_rounds_that_one_side_ran_are_left_out() -> None:
    samples = [*_pair("rest", 0, 1, 2), _sample("rest", 1, 5, present=True)]
    assert [(one.rate, two.rate) for one, two in pairs_of("rest", samples)] == [(1, 2)]


def test_less_cpu_than_the_other_is_a_ratio_above_one() -> None:
    samples = [
        _sample("known", 0, 100, present=True, api_us=40.0),
        _sample("known", 0, 100, present=False, api_us=50.0),
    ]
    (arm,) = _comparison(samples).arms
    assert (arm.api_cpu.median, arm.servers_cpu.median) == (1.25, 1.25)
    assert arm.api_us == (40.0, 50.0)


def test_arms_that_hold_pass() -> None:
    samples = [sample for number in range(3) for sample in _pair("rest", number, 97, 100)]
    comparison = _comparison(samples)
    assert comparison.verdict == f"every arm is at least {AT_LEAST} of v1"
    assert comparison.failures == []


def test_arms_that_fall_short_are_named_and_fail_the_run() -> None:
    samples = [
        sample
        for number, slow in enumerate((90, 91, 92))
        for sample in (*_pair("rest", number, 100, 100), *_pair("known", number, slow, 100))
    ]
    comparison = _comparison(samples)
    assert comparison.verdict == ("under 0.97 of v1: known 0.910 (0.900-0.920), by the API's CPU 1.000 (1.000-1.000)")
    assert comparison.failures == [comparison.verdict]


def test_a_shortfall_within_the_spread_says_so() -> None:
    samples = [sample for number, rate in enumerate((90, 96, 99)) for sample in _pair("rest", number, rate, 100)]
    assert "rest 0.960 (0.900-0.990), which noise may explain" in _comparison(samples).verdict


def test_an_arm_that_holds_by_chance_is_named_and_passes() -> None:
    samples = [sample for number, rate in enumerate((90, 98, 99)) for sample in _pair("rest", number, rate, 100)]
    comparison = _comparison(samples)
    assert comparison.verdict == (
        "every arm is at least 0.97 of v1; more rounds may say otherwise of rest 0.980 (0.900-0.990)"
    )
    assert comparison.failures == []


def test_wrong_answers_fail_the_run_on_either_side() -> None:
    samples = [_sample("rest", 0, 1, present=True), _sample("rest", 0, 1, present=False, wrong=1)]
    assert _comparison(samples).failures == ["rest, round 1, v1: 1 wrong answers of 100, such as this one"]


def test_all_figures_are_json_and_a_table() -> None:
    comparison = _comparison([*_pair("rest", 0, 1234, 1000), *_pair("hot", 0, 5, 10)])
    raw = json.loads(json.dumps(comparison.raw()))
    assert raw["kind"] == "comparison"
    assert raw["arms"]["rest"]["rate"] == {"median": 1.234, "low": 1.234, "high": 1.234}
    assert raw["verdict"].startswith("under 0.97 of v1: hot 0.500")
    assert [row[:3] for row in rows(comparison)] == [
        ("rest", "1,234 / 1,000", "1.234 (1.234-1.234)"),
        ("hot", "5 / 10", "0.500 (0.500-0.500)"),
    ]
    assert comparison_table(comparison).row_count == 2


def test_only_arms_that_a_revision_answers_alone_compare_revisions() -> None:
    assert Plan(revision="v1", arms=COMPARISON.arms).revision == "v1"
    with pytest.raises(BenchError, match="no revision is compared by echo, pgbench"):
        Plan(revision="v1", arms=("rest", "pgbench", "echo"))
