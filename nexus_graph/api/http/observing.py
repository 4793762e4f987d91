"""What is counted, and logged, of every request that was answered."""

import asyncio
from collections import defaultdict

from nexus_graph.api.http.request import RequestId
from nexus_graph.config import Settings
from nexus_graph.telemetry import REQUEST_DURATION, log

_LOG = log("api")


class Observing:
    """Counts and logs the requests of one process."""

    def __init__(self, settings: Settings) -> None:
        self._slow_seconds = settings.slow_request_seconds
        self._just_answered: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        """In seconds, what took how long to answer in this turn of the loop, by route and class of status."""

    def __call__(self, template: str, status: int, seconds: float, identified: RequestId) -> None:
        """`template` is the route's path; `status` 0 means that there was no answer."""
        if not self._just_answered:
            asyncio.get_running_loop().call_soon(self._count)
        self._just_answered[template, (status or 500) // 100].append(seconds)
        failed = status >= 500 or status == 0
        if not failed and seconds <= self._slow_seconds:
            return
        facts = {"route": template, "status": status, "seconds": round(seconds, 4), "correlation_id": identified.text}
        if failed:
            _LOG.error("request_failed", **facts)
        else:
            _LOG.warning("request_slow", **facts)

    def _count(self) -> None:
        # All of a turn at once: a batch is answered in one. Each by itself is an eighth of a known identify's Python.
        just_answered, self._just_answered = self._just_answered, defaultdict(list)
        for (template, hundreds), seconds in just_answered.items():
            REQUEST_DURATION.labels(template, f"{hundreds}xx").observe_all(seconds)
