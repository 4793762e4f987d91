"""The limits of one gatherer, as one value; each part takes what concerns it."""

from typing import Final, NamedTuple

from nexus_graph.config import Settings

HALF_MIN_REQUESTS: Final = 16
"""Requests. Smaller halves save no waiting: a round trip of so few costs a server nearly as much as one of twice as
many."""

PATIENCE_SECONDS: Final = 0.01
"""Several times what a usual batch takes, and far less than a reader notices."""


REQUESTS_MAX: Final = 64
"""Requests of one batch of identify, and so of one commit. A batch holds the write lock for some 30 µs a request: 64
are 2 ms."""

READS_MAX: Final = 50
"""Family reads of one batch: larger ones serve no more families a second, and each reader waits longer."""

READ_BATCHES: Final = 2
"""Batches of family reads in flight at once: one is answered by the server while this process takes in the other."""

QUEUE_MAX: Final = 4_096
"""Requests, or family reads, that wait: past it memory grows, and the last one would wait too long anyway."""


class Bounds(NamedTuple):
    """How many requests wait, how many go together, and how long each may take."""

    batch_max: int
    """Requests of one batch."""
    batches_max: int
    """Batches in flight at once."""
    queue_max: int
    """Requests that may wait; the next one is refused."""
    wait_max_seconds: float
    """A request whose estimated wait is longer is refused."""
    timeout_seconds: float
    """A request that is not answered by then fails, whether it waits or is in flight."""
    half_min: int = HALF_MIN_REQUESTS
    """Waiting requests are split in two halves only where a half has so many."""
    patience_seconds: float = PATIENCE_SECONDS
    """A batch that is in flight for longer no longer holds up the next one."""


def identify_bounds(settings: Settings, *, batches_max: int) -> Bounds:
    """Of a path of identify, with so many connections."""
    return Bounds(
        batch_max=REQUESTS_MAX,
        batches_max=batches_max,
        queue_max=QUEUE_MAX,
        wait_max_seconds=settings.identify_wait_max_seconds,
        timeout_seconds=settings.identify_timeout_seconds,
    )


def record_bounds(settings: Settings) -> Bounds:
    """Of family reads from the record, or from its replica."""
    return identify_bounds(settings, batches_max=settings.read_connections)._replace(batch_max=READS_MAX)


def bounds_within(timeout_seconds: float) -> Bounds:
    """Of family reads from a server that has so many seconds to answer."""
    return Bounds(
        batch_max=READS_MAX,
        batches_max=READ_BATCHES,
        queue_max=QUEUE_MAX,
        wait_max_seconds=timeout_seconds,
        timeout_seconds=timeout_seconds,
    )
