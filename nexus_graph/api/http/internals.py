"""The inner parts of uvicorn's HTTP protocol that the direct way uses. uvicorn does not promise to keep them."""

import inspect
from collections.abc import Iterator
from typing import Any, Final

from uvicorn.protocols.http import flow_control, httptools_impl

_METHODS: Final = {
    "connection_made": ["transport"],
    "on_message_begin": [],
    "on_url": ["url"],
    "on_header": ["name", "value"],
    "on_headers_complete": [],
    "on_body": ["body"],
    "on_message_complete": [],
    "on_response_complete": [],
    "_start_asgi_task": ["cycle", "app"],
}
"""Methods that the direct way overrides, calls or omits, with their parameters."""
_STATE: Final = frozenset({
    "access_log", "access_logger", "app", "app_state", "asgi_version", "client", "cycle", "expect_100_continue",
    "flow", "headers", "logger", "loop", "parser", "pipeline", "root_path", "scheme", "server", "server_state",
    "tasks", "transport",
})  # fmt: skip
"""Attributes of a connection, all set before its first byte."""
_CYCLE: Final = frozenset({
    "scope", "transport", "flow", "logger", "access_logger", "access_log", "default_headers", "message_event",
    "expect_100_continue", "keep_alive", "on_response",
})  # fmt: skip
"""What a cycle is made of."""
_CYCLE_STATE: Final = frozenset({
    "body", "disconnected", "keep_alive", "message_event", "more_body", "response_complete",
})  # fmt: skip
"""Attributes of a cycle that the protocol reads and sets."""
_FLOW: Final = ("drain", "resume_reading", "pause_reading")


def differences() -> list[str]:
    """The differences of this uvicorn from the one that the direct way was written for; empty if none."""
    return sorted(_differences())


def _differences() -> Iterator[str]:
    protocol: Any = getattr(httptools_impl, "HttpToolsProtocol", None)
    cycle: Any = getattr(httptools_impl, "RequestResponseCycle", None)
    for name, given in _METHODS.items():
        method = getattr(protocol, name, None)
        if method is None or _parameters(method) != given:
            yield f"HttpToolsProtocol.{name}"
    yield from (f"HttpToolsProtocol().{name}" for name in _STATE - _set_by(protocol))
    if frozenset(_parameters(cycle.__init__) if cycle else ()) != _CYCLE:
        yield "RequestResponseCycle"
    yield from (f"RequestResponseCycle().{name}" for name in _CYCLE_STATE - _set_by(cycle))
    for name in _FLOW:
        if not hasattr(flow_control.FlowControl, name):
            yield f"FlowControl.{name}"
    if getattr(httptools_impl, "STATUS_LINE", {}).get(200) != b"HTTP/1.1 200 OK\r\n":
        yield "STATUS_LINE"


def _parameters(method: Any) -> list[str]:
    return [name for name in inspect.signature(method).parameters if name != "self"]


def _set_by(made: Any) -> frozenset[str]:
    """Names of the attributes that a class sets in `__init__`; further names do no harm."""
    code = getattr(getattr(made, "__init__", None), "__code__", None)
    return frozenset(code.co_names if code else ())
