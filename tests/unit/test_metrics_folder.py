"""The folder in which processes count together: the sum of all, whatever the disk does, and nothing left behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nexus_graph import metrics_folder
from nexus_graph.config import METRICS_FOLDER
from nexus_graph.metrics_folder import in_use, remove_left, remove_unused, temporary_folder

COUNTED = """
from nexus_graph import telemetry
telemetry.IDENTIFY_OUTCOMES.labels("CREATED", "write").inc(3)
telemetry.REQUEST_DURATION.labels("/identify", "2xx").observe_all([0.002, 0.2, 20.0])
telemetry.OUTBOX_DEPTH.set({depth})
telemetry.SUBSCRIPTIONS.labels("sse").set(5)
telemetry.count_together()
print(telemetry.exposition().decode())
"""
FULL = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # as on a full disk: no file may grow
from nexus_graph import telemetry
folder = telemetry._FOLDER
telemetry.IDENTIFY_ERRORS.labels("X").inc()
assert not folder.write()
telemetry.exposition()
assert not list(folder.path.glob("*.db"))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert folder.write()
resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
for number in range(5_000):
    telemetry.IDENTIFY_ERRORS.labels(f"X{number}").inc()
assert not folder.write()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert folder.write()
print(telemetry.exposition().decode())
"""


def ran(code: str, folder: Path) -> list[str]:
    """What a process prints that counts in this folder."""
    environment = {**os.environ, METRICS_FOLDER: str(folder)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


def test_each_process_shows_the_sum_of_all(tmp_path: Path) -> None:
    ran(COUNTED.format(depth=7), tmp_path)
    told = ran(COUNTED.format(depth=9), tmp_path)
    assert 'nexus_identify_outcomes_total{outcome="CREATED",path="write"} 6.0' in told
    assert 'nexus_request_duration_seconds_count{route="/identify",status="2xx"} 6.0' in told
    assert 'nexus_request_duration_seconds_bucket{le="0.0025",route="/identify",status="2xx"} 2.0' in told
    assert "nexus_outbox_depth 9.0" in told, "the newest"
    assert 'nexus_subscriptions{transport="sse"} 5.0' in told, "of those that live"


def test_a_disk_that_takes_nothing_ends_no_process_and_what_was_counted_comes_once_it_does(tmp_path: Path) -> None:
    told = ran(FULL, tmp_path)
    assert 'nexus_identify_errors_total{code="X"} 1.0' in told
    assert 'nexus_identify_errors_total{code="X4999"} 1.0' in told
    assert not list(tmp_path.glob("*.new"))


def test_a_folder_that_was_cleared_away_is_done_without(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    told = ran(COUNTED.format(depth=7), folder)
    assert 'nexus_identify_outcomes_total{outcome="CREATED",path="write"} 3.0' in told


def test_what_killed_processes_left_goes_with_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, used, new, old = [tmp_path / f"nexus-metrics-{name}" for name in ("left", "used", "new", "old")]
    for folder in (left, used, new, old):
        folder.mkdir()
    (left / metrics_folder._LOCK).touch()
    (left / "counter_1.db").touch()
    os.utime(old, (time.time() - 3600,) * 2)
    with in_use(used):
        with temporary_folder() as own:
            remove_left()
            assert sorted(tmp_path.iterdir()) == sorted([used, new, own])
        assert sorted(tmp_path.iterdir()) == sorted([used, new])
    remove_unused(used)
    assert list(tmp_path.iterdir()) == [new]
