"""The limits of one gatherer, as one value. `Settings` makes them; each part takes what concerns it."""

from typing import Final, NamedTuple

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

READS_WAITING_MAX: Final = 4_096
"""Family reads that wait: past it memory grows, and the last one would wait too long anyway."""


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


def bounds_within(timeout_seconds: float, *, batch_max: int = READS_MAX, batches_max: int = READ_BATCHES) -> Bounds:
    """The bounds of family reads from a server that has so many seconds to answer."""
    return Bounds(
        batch_max=batch_max,
        batches_max=batches_max,
        queue_max=READS_WAITING_MAX,
        wait_max_seconds=timeout_seconds,
        timeout_seconds=timeout_seconds,
    )
