"""Log lines of libraries pass through our own log: one JSON line each, without a traceback, at a bounded rate.

Their texts may quote values, so a line holds the place, the level and the type of the error only. asyncpg's few texts
are constants, and a line holds them.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

import structlog

_LOG: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(part="library")

_AGAIN_AFTER_SECONDS: Final = 10.0
"""The least time between two lines of one place; the next line holds the number of lines left out."""

_PLACES_MAX: Final = 1_000
"""The most places whose last line is remembered."""

_CONSTANT_TEXTS: Final = ("asyncpg",)


class _Teller(logging.Handler):
    """The last handler of `logging`, so that Python's own handler, which writes tracebacks, is never used."""

    def __init__(self, error_name: Callable[[BaseException], str]) -> None:
        super().__init__(logging.WARNING)
        self._error_name = error_name
        self._told_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        place = f"{Path(record.pathname).name}:{record.lineno}"
        now = monotonic()
        if now - self._told_at.get(place, float("-inf")) < _AGAIN_AFTER_SECONDS:
            self._left_out[place] = self._left_out.get(place, 0) + 1
            return
        if len(self._told_at) >= _PLACES_MAX:
            self._told_at.clear()
            self._left_out.clear()
        self._told_at[place] = now
        facts: dict[str, object] = {"library": record.name, "at": place}
        if record.name.startswith(_CONSTANT_TEXTS):
            facts["said"] = str(record.msg)
        if record.exc_info and record.exc_info[1] is not None:
            facts["error"] = self._error_name(record.exc_info[1])
        if left_out := self._left_out.pop(place, 0):
            facts["left_out"] = left_out
        (_LOG.error if record.levelno >= logging.ERROR else _LOG.warning)("library_said", **facts)


def listen_to_libraries(error_name: Callable[[BaseException], str]) -> None:
    """Install the handler, once for each process. `error_name` gives the text that a log may hold of an error."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Teller) for handler in root.handlers):
        root.addHandler(_Teller(error_name))
