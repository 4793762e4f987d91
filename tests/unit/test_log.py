"""The log: JSON lines that several processes may share."""

import io
import json

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
