"""Whatever uvicorn changes of its inner parts that the direct way uses is noticed."""

from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.protocols.http import flow_control, httptools_impl

from nexus_graph.api.http.internals import differences

Cycle = httptools_impl.RequestResponseCycle
Protocol = httptools_impl.HttpToolsProtocol


class LargerCycle(Cycle):
    def __init__(self, priority: int = 0, **given: Any) -> None:
        super().__init__(**given)
        self.priority = priority


class EmptyCycle:
    def __init__(
        self,
        *,
        scope: object,
        transport: object,
        flow: object,
        logger: object,
        access_logger: object,
        access_log: object,
        default_headers: object,
        message_event: object,
        expect_100_continue: object,
        keep_alive: object,
        on_response: object,
    ) -> None:
        """As uvicorn's, and keeps nothing."""


class OtherState:
    """As uvicorn's protocol, and knows no pipeline."""

    def __init__(self) -> None:
        self.transport = self.cycle = None


def test_this_uvicorn_is_the_one_that_the_direct_way_was_written_for() -> None:
    assert differences() == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        (lambda patch: patch.setattr(httptools_impl, "RequestResponseCycle", LargerCycle), "RequestResponseCycle"),
        (
            lambda patch: patch.setattr(httptools_impl, "RequestResponseCycle", EmptyCycle),
            "RequestResponseCycle().body",
        ),
        (lambda patch: patch.delattr(Protocol, "_start_asgi_task"), "HttpToolsProtocol._start_asgi_task"),
        (lambda patch: patch.setattr(Protocol, "on_body", lambda _, chunk: chunk), "HttpToolsProtocol.on_body"),
        (lambda patch: patch.setattr(Protocol, "__init__", OtherState.__init__), "HttpToolsProtocol().pipeline"),
        (lambda patch: patch.setattr(httptools_impl, "HttpToolsProtocol", OtherState), "HttpToolsProtocol.on_url"),
        (lambda patch: patch.delattr(httptools_impl, "HttpToolsProtocol"), "HttpToolsProtocol.on_message_begin"),
        (lambda patch: patch.delattr(httptools_impl, "RequestResponseCycle"), "RequestResponseCycle"),
        (lambda patch: patch.delattr(flow_control.FlowControl, "drain"), "FlowControl.drain"),
        (lambda patch: patch.setitem(httptools_impl.STATUS_LINE, 200, "200 OK"), "STATUS_LINE"),
    ],
)
def test_a_difference_is_named(
    monkeypatch: pytest.MonkeyPatch, planted: Callable[[pytest.MonkeyPatch], None], found: str
) -> None:
    planted(monkeypatch)
    assert found in differences()
    monkeypatch.undo()
    assert differences() == []
