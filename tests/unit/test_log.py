"""The log: JSON lines that several processes may share."""

import io
import json
import logging
from pathlib import Path
from typing import cast

import pytest

from nexus_graph import telemetry


def test_a_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writes a line let the lines of two workers fall into one."""
    written: list[str] = []

    class Stderr(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    monkeypatch.setattr("sys.stderr", Stderr())
    telemetry.log("test").info("something_happened", code="X")
    (line,) = written
    assert line.endswith("\n")
    told = json.loads(line)
    assert (told["part"], told["event"], told["code"], told["level"]) == ("test", "something_happened", "X", "info")


def test_what_libraries_log_is_a_line_without_their_words(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("ada@example.com is no number")
    except ValueError:
        logging.getLogger("redis.connection").exception("could not send ada@example.com")
    line = capsys.readouterr().err
    told = json.loads(line)
    assert told["event"] == "library_said"
    assert (told["library"], told["level"], told["error"]) == ("redis.connection", "error", "ValueError")
    assert told["at"].startswith("test_log.py:")
    assert "ada" not in line


def test_one_place_of_a_library_does_not_fill_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """asyncpg's words are constants, and are told."""
    library = logging.getLogger("asyncpg.pool")
    for _ in range(100):
        library.warning("Failed to restore the pool connection floor; retrying", exc_info=OSError())
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["said"] == "Failed to restore the pool connection floor; retrying"


def test_what_was_left_out_is_counted_once_it_is_told_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        logging.getLogger("neo4j.io").error("defunct %s", "ada@example.com")

    for _ in range(3):
        fail()
    monkeypatch.setattr("nexus_graph.telemetry._AGAIN_AFTER_SECONDS", 0.0)
    fail()
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert "left_out" not in first
    assert second["left_out"] == 2


def test_a_full_disk_under_the_log_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = telemetry.LOG_LINES_LOST._value.get()
    with Path("/dev/full").open("wb", buffering=0) as full:
        stderr = io.TextIOWrapper(cast("io.BytesIO", full), write_through=True)
        monkeypatch.setattr("sys.stderr", stderr)
        telemetry.log("test").error("something_happened")
        stderr.detach()
    assert telemetry.LOG_LINES_LOST._value.get() == lost + 1
