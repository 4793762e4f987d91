"""How many clients may follow at once: the WebSockets and the event streams of one process together."""

from collections.abc import Iterator
from contextlib import contextmanager

from nexus_graph.errors import Overloaded


class Places:
    """A place for each client that follows."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0

    def require(self) -> None:
        """Raises Overloaded if no place is free."""
        if self._taken >= self.most:
            raise Overloaded(f"too many sockets are open: at most {self.most} a process, event streams among them")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place for the time of the block, even if none is free: call `require` before."""
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
