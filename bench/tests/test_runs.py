"""The results of all runs, and the page that is written from them."""

from pathlib import Path
from typing import Any

from bench.runs import ARMS_MIN, PAGE, RESULTS, page, results, save

_MACHINE = {"cpu": "a processor", "cores": 2, "memory_gib": 23.5, "system": "Linux 6"}


def _run(at: str, *, rest: float, ratio: float | None = None, arms: int = ARMS_MIN, cpu: str = "a processor") -> Any:
    figures = {"rate": rest, "lowest": 1.0, "highest": 9.0, "p50_ms": 1.0, "p99_ms": 2.0, "p999_ms": None}
    return {
        "kind": "run",
        "at": at,
        "commit": "0123456789",
        "command": "python -m bench",
        "machine": {**_MACHINE, "cpu": cpu},
        "arms": {f"arm{number}": figures for number in range(arms)},
        "ratios": {"rest / echo": ratio},
        "failures": [],
    }


def _comparison(at: str) -> Any:
    ratio = {"median": 1.0, "low": 0.99, "high": 1.01}
    return {
        "kind": "comparison",
        "at": at,
        "commit": "0123456789",
        "revision_commit": "9876543210",
        "verdict": "every arm is at least 0.97 of v1",
        "arms": {"rest": {"rate": ratio, "api_cpu": ratio}},
    }


def test_a_result_is_kept_under_its_time_and_read_again(tmp_path: Path) -> None:
    later, earlier = _run("2026-01-02 03:04 UTC", rest=2), _comparison("2026-01-01 03:04 UTC")
    assert save(later, tmp_path).name == "2026-01-02-0304.json"
    assert save(later, tmp_path).name == "2026-01-02-0304-1.json"
    assert save(earlier, tmp_path).name == "2026-01-01-0304-beside-9876543210.json"
    assert results(tmp_path) == [earlier, later, later]


def test_the_newest_run_of_each_machine_is_shown_whole() -> None:
    text = page([
        _run("2026-01-01 00:00 UTC", rest=111, cpu="an old processor"),
        _run("2026-01-02 00:00 UTC", rest=222),
        _run("2026-01-03 00:00 UTC", rest=333),
        _run("2026-01-04 00:00 UTC", rest=444, arms=1),
    ])  # fmt: skip
    assert "| arm0 | 333 | 1 | 9 | 1.00 | 2.00 |  |" in text
    assert "| arm0 | 111 |" in text
    assert "222" not in text
    assert "444" not in text, "a run of one arm shows no machine"


def test_ratios_stand_over_time_the_newest_first() -> None:
    text = page([_run("2026-01-01 00:00 UTC", rest=1, ratio=0.5), _run("2026-01-02 00:00 UTC", rest=1, ratio=0.25)])
    assert text.index("| 2026-01-02 00:00 | 0123456789 | 1 | 0.25 |") < text.index("| 2026-01-01 00:00 |")


def test_comparisons_are_listed_with_their_verdicts() -> None:
    text = page([_comparison("2026-01-01 00:00 UTC")])
    assert "0123456789 and 9876543210: every arm is at least 0.97 of v1." in text
    assert "rest: 1.000 (0.990-1.010); by the CPU time of the API 1.000" in text


def test_the_page_in_the_docs_is_that_of_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(results(RESULTS)), "python -m bench.runs"
