"""The picture of a run, from its JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.plot import bars, moments


def _measured(arm: str, rate: float, p50_ms: float) -> dict[str, object]:
    return {"arm": arm, "rate": rate, "latency_ms": {"p50_ms": p50_ms, "p99_ms": 3.0, "p999_ms": 4.0}}


_RAW = {
    "at": "2026-01-02 03:04 UTC",
    "commit": "0123456789",
    "machine": {"cores": 2},
    "plan": {"clients": 32, "people": 5_000},
    "measurements": [
        _measured("rest", 100, 1.0),
        _measured("echo", 900, 0.1),
        _measured("rest", 300, 3.0),
        _measured("rest", 200, 2.0),
    ],
    "parts": [
        {
            "name": "sustain",
            "moments": [
                {"at_seconds": 10.0, "rate": 5.0, "lag_p99_seconds": None, "api_memory_mb": 90.0},
                {"at_seconds": 20.0, "rate": 6.0, "lag_p99_seconds": 0.1, "api_memory_mb": 91.0},
            ],
        },
        {"name": "start", "moments": []},
    ],
}


def test_a_bar_is_the_median_of_its_rounds_the_fastest_first() -> None:
    echo, rest = bars(_RAW)
    assert (echo.arm, rest.arm) == ("echo", "rest")
    assert (rest.rate, sorted(rest.rates), rest.p50_ms) == (200, [100, 200, 300], 2.0)


def test_only_long_loads_have_a_course() -> None:
    assert [moment["at_seconds"] for moment in moments(_RAW)] == [10.0, 20.0]
    assert moments({"measurements": []}) == []


@pytest.mark.parametrize("parts", [True, False], ids=["with a long load", "rounds only"])
def test_the_same_figures_give_the_same_picture(tmp_path: Path, *, parts: bool) -> None:
    figures = tmp_path / "run.json"
    figures.write_text(json.dumps(_RAW if parts else {**_RAW, "parts": []}))
    pictures = [tmp_path / "one.svg", tmp_path / "other.svg"]
    for picture in pictures:
        command = [sys.executable, "-m", "bench.plot", str(figures), "--out", str(picture)]
        subprocess.run(command, check=True, timeout=60)
    one, other = (picture.read_bytes() for picture in pictures)
    assert one == other
    assert b"echo" in one
    assert (b"API memory" in one) is parts
