"""Metrics and log lines of answered requests."""

import asyncio
from collections import defaultdict
from time import monotonic
from typing import Final

from nexus_graph.api.http.request import RequestId
from nexus_graph.config import Settings
from nexus_graph.telemetry import REQUEST_DURATION, log

_LOG = log("api")

_LINES_MAX: Final = 50
_LINES_SECONDS: Final = 10.0
"""The most lines of one kind (a route and a status, or a route and slow) in this time; the next line holds the number
of lines left out. A server under overload or without its record refuses thousands of requests a second, and a log that
is read slowly would stop it."""
_SLOW: Final = -1


class Observing:
    """Counts and logs the requests of one process."""

    def __init__(self, settings: Settings) -> None:
        self._slow_seconds = settings.slow_request_seconds
        self._just_answered: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        """Seconds of the answers in this turn of the loop, by route and class of status."""
        self._lines: defaultdict[tuple[str, int], _Lines] = defaultdict(_Lines)
        """By route and status."""

    def __call__(self, template: str, status: int, seconds: float, request_id: RequestId) -> None:
        """`template` is the route's path; `status` 0 means that there was no answer."""
        if not self._just_answered:
            asyncio.get_running_loop().call_soon(self._count)
        self._just_answered[template, (status or 500) // 100].append(seconds)
        failed = status >= 500 or status == 0
        if not failed and seconds <= self._slow_seconds:
            return
        left_out = self._lines[template, status if failed else _SLOW].write()
        if left_out is None:
            return
        facts = {"route": template, "status": status, "seconds": round(seconds, 4), "correlation_id": request_id.text}
        if left_out:
            facts["left_out"] = left_out
        if failed:
            _LOG.error("request_failed", **facts)
        else:
            _LOG.warning("request_slow", **facts)

    def _count(self) -> None:
        # All of a turn at once, as a batch is answered in one turn: one by one they are an eighth of a known identify's
        # Python.
        just_answered, self._just_answered = self._just_answered, defaultdict(list)
        for (template, hundreds), seconds in just_answered.items():
            REQUEST_DURATION.labels(template, f"{hundreds}xx").observe_all(seconds)


class _Lines:
    """The lines of one kind."""

    _since = float("-inf")
    _written = _left_out = 0

    def write(self) -> int | None:
        """The number of lines left out before this line; None to leave this line out too."""
        now = monotonic()
        if now - self._since >= _LINES_SECONDS:
            self._since, self._written = now, 0
        if self._written >= _LINES_MAX:
            self._left_out += 1
            return None
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
