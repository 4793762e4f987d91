"""What is logged of requests: failed and slow ones, at a bounded rate."""

import json

import pytest

from nexus_graph.api.http import observing
from nexus_graph.api.http.observing import Observing
from nexus_graph.api.http.request import RequestId
from nexus_graph.config import Settings


def _lines(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, int, int | None]]:
    lines = map(json.loads, capsys.readouterr().err.splitlines())
    return [(line["event"], line["route"], line["status"], line.get("left_out")) for line in lines]


async def test_a_flood_of_refusals_does_not_fill_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is read slowly would stop the server. Other kinds are written all the same."""
    observe = Observing(Settings(slow_request_seconds=1.0))
    for _ in range(10 * observing._LINES_MAX):
        observe("/identify", 503, 0.001, RequestId(None))
    assert _lines(capsys) == [("request_failed", "/identify", 503, None)] * observing._LINES_MAX
    for route, status, seconds in (("/identify", 500, 0.1), ("/graphql", 503, 0.1), ("/identify", 200, 2.0)):
        observe(route, status, seconds, RequestId(None))
    assert _lines(capsys) == [
        ("request_failed", "/identify", 500, None),
        ("request_failed", "/graphql", 503, None),
        ("request_slow", "/identify", 200, None),
    ]
    monkeypatch.setattr(observing, "_LINES_SECONDS", 0.0)
    for _ in range(2):
        observe("/identify", 503, 0.001, RequestId(None))
    assert _lines(capsys) == [
        ("request_failed", "/identify", 503, 9 * observing._LINES_MAX),
        ("request_failed", "/identify", 503, None),
    ]


async def test_what_is_well_and_quick_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    observe = Observing(Settings(slow_request_seconds=1.0))
    for status in (200, 400, 499):
        observe("/identify", status, 0.5, RequestId(None))
    assert _lines(capsys) == []
