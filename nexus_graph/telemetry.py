"""Every metric, declared once, and structured logs. Labels come from closed sets and never hold an identifier.

Processes with the same folder in PROMETHEUS_MULTIPROC_DIR count together: each shows the sum of all.
"""

import logging
import sys
from bisect import bisect_left
from collections import Counter as Multiset
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from time import monotonic
from traceback import extract_tb
from typing import Final, TextIO, cast

import structlog
from prometheus_client import Counter, Gauge, Histogram, generate_latest

from nexus_graph import metrics_folder

_FOLDER: Final = metrics_folder.opened()


class ManyAtOnce(Histogram):
    """A histogram that observes many amounts at little more than the cost of one."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """As `observe` of each."""
        self._sum.inc(sum(amounts))
        for bucket, count in Multiset(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[bucket].inc(count)


_PACKAGE: Final = Path(__file__).parent
_LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

CERTIFICATE_READS = Counter("nexus_certificate_reads_total", "Reads of the changed certificate of the API", ["result"])
HANDSHAKES_FAILED = Counter("nexus_tls_handshakes_failed_total", "TLS handshakes that failed, or took too long")
REQUEST_DURATION = ManyAtOnce(
    "nexus_request_duration_seconds", "Time to answer a request", ["route", "status"], buckets=_LATENCY_SECONDS
)
REST_CALLS = Counter(
    "nexus_rest_calls_total",
    "Calls of REST that the door let in, by version of the API and client",
    ["version", "client"],
)
IDENTIFY_OUTCOMES = Counter("nexus_identify_outcomes_total", "Answers of identify", ["outcome", "path"])
IDENTIFY_ERRORS = Counter("nexus_identify_errors_total", "identify calls that ended in an error", ["code"])
BATCH_SIZE = Histogram(
    "nexus_batch_size", "Requests gathered into one call", ["queue"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
QUEUE_WAIT = Histogram(
    "nexus_queue_wait_seconds", "Wait of each batch's first request", ["queue"], buckets=_LATENCY_SECONDS
)
FAMILY_READS = Counter("nexus_family_reads_total", "Family reads by the store that answered", ["source", "fallback"])
RECORD_READS = Counter(
    "nexus_record_reads_total",
    "Families and lists read from the record: by the primary or the replica, and why the replica did not answer",
    ["server", "fallback"],
)
CACHE_READS = Counter("nexus_cache_reads_total", "Families looked for in the cache", ["level", "result"])
RATE_DECISIONS = Counter(
    "nexus_rate_limit_decisions_total",
    "Calls let in and refused by their rate limits: by Redis; by a process as Redis said; or while Redis is away",
    ["result", "decided_by"],
)
FAMILY_QUOTA_DECISIONS = Counter(
    "nexus_family_quota_decisions_total",
    "Reads of families new to their caller, let in and refused by the quota of a day: by Redis, or without it",
    ["result", "decided_by"],
)
GRAPH_JOINED = Gauge(
    "nexus_graph_joined", "Processes whose readers are answered by the graph", multiprocess_mode="livesum"
)
GRAPH_READS_IN_DOUBT = Counter("nexus_graph_reads_in_doubt_total", "Walks that the graph cannot vouch for", ["cause"])

SECURITY_EVENTS = Counter("nexus_security_events_total", "Lines of the security log", ["event"])

CONNECTIONS = Gauge("nexus_connections", "Connections that are open", multiprocess_mode="livesum")
CONNECTIONS_CUT = Counter(
    "nexus_connections_cut_total", "Connections ended as a request came, or an answer was taken, too slowly", ["phase"]
)
CONNECTIONS_REFUSED = Counter(
    "nexus_connections_refused_total", "Connections and requests refused, or ended, for want of room or time", ["cause"]
)

SUBSCRIPTIONS = Gauge(
    "nexus_subscriptions", "Operations under way over sockets and streams", ["transport"], multiprocess_mode="livesum"
)
SUBSCRIPTION_ANSWERS = Counter("nexus_subscription_answers_total", "Answers sent to them", ["transport"])
SUBSCRIBERS_CUT = Counter("nexus_subscribers_cut_total", "Clients that took too long to take one", ["transport"])

KEY_CHECKS = Counter("nexus_key_checks_total", "API keys presented by callers, by what came of the check", ["result"])

OUTBOX_DEPTH = Gauge("nexus_outbox_depth", "Rows that the graph has still to hear of", multiprocess_mode="mostrecent")
OUTBOX_OLDEST_AGE = Gauge("nexus_outbox_oldest_age_seconds", "Age of the oldest row", multiprocess_mode="mostrecent")
OUTBOX_PARKED = Gauge("nexus_outbox_parked", "Rows set aside after too many failures", multiprocess_mode="mostrecent")
RELAY_LAG = Histogram(
    "nexus_relay_lag_seconds", "From the commit of a change to its commit in the graph", buckets=_LATENCY_SECONDS
)
RELAY_ACTIVE = Gauge("nexus_relay_active", "Relays that hold the lease", multiprocess_mode="livesum")
RELAY_RENEWED_AGE = Gauge(
    "nexus_relay_renewed_age_seconds",
    "Since a relay last renewed the lease; infinite if none has it",
    multiprocess_mode="mostrecent",
)
RELAY_PROJECTED = Counter("nexus_relay_projected_families_total", "Families written to the graph")
RELAY_FAILURES = Counter("nexus_relay_failures_total", "Batches the relay could not project", ["cause"])
DRIFT = Gauge("nexus_drift_families", "Families that differ in the last check", multiprocess_mode="mostrecent")
GRAPH_INCOMPLETE = Gauge(
    "nexus_graph_incomplete",
    "1 while the active relay finds that the graph lacks constraints, families, or the end of a rebuild",
    ["lack"],
    multiprocess_mode="mostrecent",
)

AUDIT_ENTRIES = Counter("nexus_audit_entries_total", "Entries stored in the audit trail")
AUDIT_LOST = Counter("nexus_audit_lost_total", "Entries that could not be stored in the audit trail", ["cause"])
AUDIT_REFUSED = Counter("nexus_audit_refused_total", "Requests refused as they could not be audited (strict)")
AUDIT_WAITING = Gauge("nexus_audit_waiting", "Entries that wait to be stored", multiprocess_mode="livesum")
AUDIT_HEAD = Gauge(
    "nexus_audit_head_sequence", "The last entry of the audit trail, as last stored", multiprocess_mode="mostrecent"
)
AUDIT_HEAD_DIGEST = Gauge(
    "nexus_audit_head_digest", "The first 48 bits of that entry's hash, as a number", multiprocess_mode="mostrecent"
)
AUDIT_HEADS_NOT_KEPT = Counter("nexus_audit_heads_not_kept_total", "Failed writes of NEXUS_AUDIT_HEAD_FILE")

TOKENS = Counter("nexus_tokens_total", "Tokens presented, by what became of them", ["result"])
KEY_SET_READS = Counter("nexus_key_set_reads_total", "Reads of the keys that tokens are signed with", ["result"])
KEY_SET_READ_AT = Gauge(
    "nexus_key_set_read_timestamp_seconds",
    "When a process last had these keys, as seconds since 1970",
    multiprocess_mode="mostrecent",
)
LOG_LINES_LOST = Counter("nexus_log_lines_lost_total", "Lines that could not be written to the log")

CORRELATION_ID: Final[ContextVar[str]] = ContextVar("correlation_id")
"""The correlation id of the current request; every log line of the request carries the id."""
TRACE_ID: Final[ContextVar[str]] = ContextVar("trace_id")
"""Of the request's traceparent, where it has one."""


def count_together() -> None:
    """Share this process's counts with the other processes of the folder from now on."""
    if _FOLDER is not None:
        _FOLDER.write_on()


def exposition() -> bytes:
    """The metrics as Prometheus reads them: this process's, or those of all that count together."""
    if _FOLDER is None or not _FOLDER.path.is_dir():  # the folder may have been removed by hand
        return generate_latest()
    return generate_latest(_FOLDER.together())


class _Stderr:
    """Standard error. A line that it cannot take is lost and counted: a full disk fails no request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            LOG_LINES_LOST.inc()
            return 0

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure_logging(level: str) -> None:
    """Log JSON lines to stderr, one event each, with the request's correlation id if there is one. Lines of libraries
    are included.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, _Teller) for handler in root.handlers):
        root.addHandler(_Teller())
    structlog.configure(
        processors=[
            _correlated,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        # Read `sys.stderr` for each line: code that replaced it may have closed the old one. A line is one write, as
        # the processes of `serve --workers` share stderr.
        logger_factory=lambda *_: structlog.WriteLogger(cast("TextIO", _Stderr(sys.stderr))),
    )


def _correlated(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if (correlation_id := CORRELATION_ID.get(None)) is not None:
        event.setdefault("correlation_id", correlation_id)
        if (trace_id := TRACE_ID.get(None)) is not None:
            event.setdefault("trace_id", trace_id)
    return event


def log(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a part of the system. Events are short snake_case phrases; values are ids, counts and codes."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return logger


_LIBRARY_LOG: Final = log("library")

_AGAIN_AFTER_SECONDS: Final = 10.0
"""The least time between two lines of one place; the next line holds the number of lines left out."""

_PLACES_MAX: Final = 1_000
"""The most places whose last line is remembered."""

_CONSTANT_TEXTS: Final = ("asyncpg",)


class _Teller(logging.Handler):
    """The last handler of `logging`: a library's line is one JSON line of ours, without a traceback, at a bounded rate.

    Libraries' texts may quote values, so a line holds the place, the level and the type of the error only. asyncpg's
    few texts are constants, and a line holds them.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
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
            facts["error"] = error_name(record.exc_info[1])
        if left_out := self._left_out.pop(place, 0):
            facts["left_out"] = left_out
        (_LIBRARY_LOG.error if record.levelno >= logging.ERROR else _LIBRARY_LOG.warning)("library_said", **facts)


def error_name(error: BaseException) -> str:
    """The type of an unexpected error: all that a log may say of it, as drivers quote values in their texts."""
    code = getattr(error, "sqlstate", None) or getattr(error, "code", None)
    return f"{type(error).__name__}:{code}" if isinstance(code, str) else type(error).__name__


def place(error: BaseException) -> str:
    """File and line of our own code that raised. No value is part of it."""
    for frame in reversed(extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(_PACKAGE):
            return f"{Path(frame.filename).relative_to(_PACKAGE.parent)}:{frame.lineno}"
    return "elsewhere"
