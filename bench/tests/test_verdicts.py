"""The arithmetic of the benchmark's report."""

import json
import math
from array import array
from collections.abc import Sequence
from dataclasses import replace

import pytest

from bench import report
from bench.gauges import Machine, Sight
from bench.load.loops import Load
from bench.plan import ARMS, FULL, PARTS, SHORT, BenchError, Plan
from bench.record import expected_shares
from bench.result import Figure, Lag, Measurement, Moment, Part, Result, quantile
from bench.verdict import AtLeast, Under, Verdict, costs_us, failures, shortfalls, verdicts

MIX = {"MATCHED": 0.5, "LINKED": 0.25, "CREATED": 0.15, "MERGED": 0.1}


def _measured(arm: str, number: int, rate: float, **changes: object) -> Measurement:
    plain = Measurement(
        arm=arm,
        round=number,
        rate=rate,
        latency_ms={"p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.0, "p999_ms": 4.0},
        requests=100,
        wrong=0,
        wrong_shown=(),
        generator_cpu_us=20.0,
        cores={"api": 0.9, "relay": 0.001},
        outcomes=MIX,
        api_memory_mb=100.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def _lag(*, ages: Sequence[float], probes: Sequence[float]) -> Lag:
    return Lag([Sight("rest", age) for age in ages], [Sight("rest", lag) for lag in probes])


def _result(*measurements: Measurement) -> Result:
    return Result(
        at="2026-01-02 03:04 UTC",
        command="python -m bench",
        commit="0123456789",
        machine=Machine("a processor", 2, 23.5, "Linux 6", "3.11.7", "ext4, 0.50 ms a sync"),
        servers={
            "postgres": "18.6",
            "neo4j": "Neo4j",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
        },
        plan={"clients": 32, "people": 5000, "seconds": 6.0, "open_rate": 1000.0},
        measurements=measurements,
        skipped={},
        lag=_lag(ages=[0.0, 0.1], probes=[0.2, 0.3]),
        drained=True,
        drift=0,
    )


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4)], ids=str)
def test_quantile_is_the_nearest_rank(share: float, value: float) -> None:
    assert quantile([1, 2, 3, 4], share) == value


def test_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile([], 0.5))


def test_a_measurement_counts_what_fell_into_the_window() -> None:
    latencies = array("d", (0.001 * n for n in range(200, 0, -1)))
    load = Load(2.0, latencies, requests=250, wrong=0, wrong_shown=(), cpu_seconds=0.004)
    measurement = Measurement.of("rest", 0, load, cores={}, outcomes={}, api_memory_mb=100.0)
    assert measurement.rate == 100.0
    assert measurement.latency_ms == {"p50_ms": 100.0, "p90_ms": 180.0, "p99_ms": 198.0, "p999_ms": 200.0}
    assert measurement.generator_cpu_us == 20.0


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The medians' ratio would be 100 / 100.
    rates = {"rest": [100, 50, 300], "pgbench": [100, 100, 200]}
    result = _result(*(_measured(arm, n, rate) for arm in rates for n, rate in enumerate(rates[arm])))
    assert result.ratio("rest", "pgbench") == 1.0
    assert result.ratio("family", "rest") is None


def test_rounds_are_matched_by_number_whatever_the_order() -> None:
    result = _result(
        _measured("rest", 0, 10), _measured("pgbench", 1, 20), _measured("pgbench", 0, 10), _measured("rest", 1, 40)
    )
    assert result.ratio("rest", "pgbench") == 1.5


def test_a_good_run_passes() -> None:
    result = _result(_measured("rest", 0, 70), _measured("pgbench", 0, 100), _measured("graphql", 0, 28))
    assert failures(result, mix=MIX) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"drift": 3}, "drift after the run is 3 families"),
        ({"drained": False}, "did not work off the outbox"),
        ({"lag": _lag(ages=[0.0], probes=[0.1] * 98 + [1.0] * 2)}, "to graph is 1.000 s of 100"),
        ({"lag": _lag(ages=[2.0], probes=[])}, "oldest row of the outbox is 2.000 s of 1"),
    ],
    ids=["drift", "backlog", "late probes", "old outbox"],
)
def test_what_is_wrong_with_the_graph_fails_the_run(changes: dict[str, object], said: str) -> None:
    result = replace(_result(_measured("rest", 0, 100)), **changes)  # type: ignore[arg-type]
    (failed,) = failures(result, mix=MIX)
    assert said in failed


def test_lag_is_reported_by_arm_and_judged_over_all() -> None:
    lag = Lag([Sight("rest", 0.1), Sight("pgbench", 0.4)], [Sight("rest", 0.2)])
    assert (lag.p99_seconds("rest"), lag.p99_seconds("pgbench"), lag.p99_seconds()) == (0.2, 0.4, 0.4)
    assert math.isnan(lag.p99_seconds("echo"))


def test_a_missed_floor_is_named() -> None:
    result = _result(_measured("rest", 0, 69), _measured("pgbench", 0, 100), _measured("graphql", 0, 10))
    assert failures(result, mix=MIX) == [
        "rest / pgbench is 0.69, not at least 0.7",
        "graphql / rest is 0.14, not at least 0.4",
    ]


def test_wrong_answers_fail_the_run_and_one_is_shown() -> None:
    result = _result(_measured("rest", 0, 1), _measured("rest", 1, 1, wrong=2, wrong_shown=("this one", "that one")))
    assert failures(result, mix=MIX) == ["rest: 2 wrong answers, such as this one"]


def test_another_mix_fails_the_run() -> None:
    unions = {"MATCHED": 0.5, "LINKED": 0.25, "CREATED": 0.2, "MERGED": 0.05}
    result = _result(_measured("pgbench", 0, 1, outcomes=unions), _measured("family", 0, 1, outcomes={}))
    assert failures(result, mix=MIX) == [
        "pgbench: 20% of its requests were CREATED, not 15%",
        "pgbench: 5% of its requests were MERGED, not 10%",
    ]


def test_the_expected_shares_are_the_mix() -> None:
    assert expected_shares() == MIX


def test_the_section_says_what_a_reader_needs() -> None:
    result = _result(_measured("rest", 0, 1_234), _measured("rest", 1, 2_000), _measured("rest", 2, 1_000))
    text = report.markdown(result, [])
    assert "## 2026-01-02 03:04 UTC, commit 0123456789" in text
    assert "fsync=on, synchronous_commit=on, full_page_writes=on" in text
    assert "| rest | 1,234 | 1,000 | 2,000 | 1.00 | 3.00 | 4.00 | 100 | 20 | 0.30 |" in text
    assert "| processors in use | rest |" in text
    assert "| api | 0.90 |" in text
    assert "| CPU of a request, µs | rest |" in text
    assert "| api | 729 |" in text, "the cost is the median of the rounds' costs"
    assert "| all | 730 |" in text
    assert "| rest / pgbench | not measured | at least 0.7 | at least 2.5 |  |" in text
    assert "| memory of the API's process, at most | 100 MB |  | under 200 MB | yes |" in text
    assert "All floors held." in text
    assert "**Missed:** one; two." in report.markdown(result, ["one", "two"])


def test_all_figures_are_json() -> None:
    raw = json.loads(json.dumps(report.raw(_result(_measured("rest", 0, 5)), ["why"])))
    assert raw["measurements"][0]["rate"] == 5
    assert raw["ratios"]["rest / pgbench"] is None
    assert raw["verdicts"][0] == {
        "what": "rest / pgbench",
        "reached": None,
        "floor": "at least 0.7",
        "target": "at least 2.5",
        "target_reached": None,
    }
    assert raw["failures"] == ["why"]


def test_every_round_begins_with_another_arm() -> None:
    plan = Plan(arms=("rest", "echo", "family"))
    assert [plan.arms_of_round(number)[0] for number in range(4)] == ["rest", "echo", "family", "rest"]
    assert all(sorted(plan.arms_of_round(number)) == ["echo", "family", "rest"] for number in range(4))


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(BenchError, match="unknown arms: rset"):
        Plan(arms=("rset",))


def test_a_missed_target_is_reported_and_fails_nothing() -> None:
    result = _result(_measured("rest", 0, 100), _measured("express", 0, 50), _measured("open", 0, 1_000))
    found = {verdict.what: verdict for verdict in verdicts(result)}
    assert found["rest / express"].meets_target is False
    assert found["open, 1,000 req/s: p50"].meets_target is True
    assert found["rest / echo"].meets_target is None
    assert failures(result, mix=MIX) == []
    assert "| rest / express | 2.00 |  | at least 5 | no |" in report.markdown(result, [])


def test_a_missed_target_is_reported_with_what_it_would_allow() -> None:
    cores = {"api": 0.5, "postgres": 0.75, "generator": 0.25, "others": 0.5}
    result = _result(_measured("rest", 0, 5_000, cores=cores), _measured("express", 0, 2_000, cores=cores))
    (missed,) = shortfalls(result)  # on two cores
    assert (missed.ratio.name, missed.reached) == ("rest / express", 2.5)
    # 10,000 a second are wanted. One and a half processors were in use for 5,000.
    assert (missed.allowed_us, missed.taken_us) == pytest.approx((150, 300))
    assert (missed.server_allowed_us, missed.server_us, missed.others_us) == pytest.approx((100, 100, 200))
    assert missed.left_us == pytest.approx(0)
    text = report.markdown(result, [])
    assert "| rest / express, 2.50 of 5 | 150 | 300 | 200 | 100 | 0 | 100 |" in text
    assert "short of its target" not in report.markdown(_result(_measured("rest", 0, 1)), [])


def test_what_a_request_costs_is_reported_by_process() -> None:
    cores = [{"api": 0.2, "others": 1.0}, {"api": 0.1, "others": 0.0}, {"api": 0.3, "others": 0.0}]
    result = _result(*(_measured("rest", number, 1_000, cores=used) for number, used in enumerate(cores)))
    assert costs_us(result, "rest") == pytest.approx({"api": 200})
    assert costs_us(result, "echo") == {}


def test_bounds_from_above_exclude_themselves() -> None:
    assert Verdict("lag", 1.0, "1 s", floor=Under(1, "s")).misses_floor
    assert not Verdict("ratio", 1.0, "1", floor=AtLeast(1)).misses_floor


def test_the_most_memory_counts_of_rounds_and_long_loads() -> None:
    result = _result(_measured("rest", 0, 1, api_memory_mb=90.0), _measured("rest", 1, 1, api_memory_mb=250.0))
    assert result.api_memory_mb == 250.0
    sustained = Part("sustain", [], moments=[Moment(10.0, 1.0, 1.0, 1.0, None, 260.0, 0.0)])
    assert replace(result, parts=[sustained]).api_memory_mb == 260.0


def test_how_late_an_open_load_was_is_told() -> None:
    load = Load(1.0, array("d", [0.01]), 1, 0, (), cpu_seconds=None, lateness=array("d", [0.002]))
    measurement = Measurement.of("open", 0, load, cores={}, outcomes={})
    assert "| open: of which the generator sent late, p99 | 2.00 ms |  |  |  |" in report.markdown(
        _result(measurement), []
    )


def test_an_arm_that_was_left_out_is_named_with_the_reason() -> None:
    result = replace(_result(_measured("rest", 0, 1)), skipped={"express": "there is no node"})
    assert "- Left out: `express`, for there is no node." in report.markdown(result, [])


def test_what_unsafe_arms_got_wrong_is_reported_and_fails_nothing() -> None:
    plain = _measured("express_plain", 0, 1, wrong=2, wrong_shown=("this one",))
    result = replace(_result(plain), original_faults={"express_plain": 7})
    assert failures(result, mix=MIX) == []
    assert "| what concurrency broke in express_plain | 7 contacts and identifiers, 2 wrong answers |" in (
        report.markdown(result, [])
    )


def test_parts_are_told_and_their_problems_fail_the_run() -> None:
    part = Part(
        "sustain",
        [
            Figure("rate", 1234.5, "req/s"),
            Figure("share", 0.5, "of it", at_least=0.5),
            Figure("p50", 2, "ms", at_most=1),
        ],
        moments=[Moment(10.0, 1_200.0, 1.0, 2.0, None, 99.0, 0.25)],
        problems=["sustain: 3 families differ"],
    )
    result = replace(_result(_measured("rest", 0, 1)), parts=[part])
    assert failures(result, mix=MIX) == ["sustain: 3 families differ"]
    text = report.markdown(result, [])
    assert "| rate | 1,234.5 req/s |  |  |" in text
    assert "| share | 0.5 of it | at least 0.5 | yes |" in text
    assert "| p50 | 2 ms | at most 1 | no |" in text
    assert "| 10 | 1,200 | 1.00 | 2.00 |  | 99 | 0.25 |" in text
    assert json.loads(json.dumps(report.raw(result, [])))["parts"][0]["figures"][0]["value"] == 1234.5


def test_parts_may_run_without_rounds() -> None:
    assert Plan(arms=(), parts=("start",)).arms_of_round(3) == ()
    result = replace(_result(), parts=[Part("start", [Figure("nexus-graph --help", 0.1, "s")])])
    assert failures(result, mix=MIX) == []
    assert "| nexus-graph --help | 0.1 s |" in report.markdown(result, [])
    assert report.tables(result)


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(BenchError, match="unknown parts: dnese"):
        Plan(parts=("dnese",))


def test_the_full_run_is_every_arm_and_part() -> None:
    assert (FULL.arms, FULL.parts) == (ARMS, PARTS)
    assert set(SHORT.arms) < set(ARMS)
