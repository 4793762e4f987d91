"""The limits of one gatherer, as one value. `Settings` makes them; each part takes what concerns it."""

from typing import Final, NamedTuple

HALF_MIN_REQUESTS: Final = 16
"""Requests. Smaller halves save no waiting: a round trip of so few costs a server nearly as much as one of twice as
many."""

PATIENCE_SECONDS: Final = 0.01
"""Several times what a usual batch takes, and far less than a reader notices."""


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
