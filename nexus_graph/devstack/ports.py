"""The TCP ports of the servers: the customary port, or another free one."""

import socket
import sys

LOOPBACK = "127.0.0.1"
PORT_TRIES_MAX = 50


class PortLeases:
    """Ports chosen and held, so that two stacks that start at the same time choose different ports.

    A server binds its port some time after the choice. A lease reserves the port meanwhile among stacks of this
    machine: a Unix socket in the abstract namespace, which the kernel frees when its process ends. Only Linux has that
    namespace; elsewhere a server that lost its port fails to bind.
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket | None] = {}

    def choose(self, preferred: int, *, host: str = LOOPBACK) -> int:
        """Return `preferred` if it is free on `host`, else another free port; 0 asks for any."""
        if preferred and self._take(preferred, host):
            return preferred
        for _ in range(PORT_TRIES_MAX):
            port = _any_free_port(host)
            if self._take(port, host):
                return port
        raise OSError(f"no free port on {host} in {PORT_TRIES_MAX} tries")

    def release(self) -> None:
        """Give all leases back."""
        for lease in self._held.values():
            if lease is not None:
                lease.close()
        self._held.clear()

    def _take(self, port: int, host: str) -> bool:
        if port in self._held or not is_free(port, host=host):
            return False
        lease: socket.socket | None = None
        if sys.platform == "linux":
            lease = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                lease.bind(f"\0nexus-graph-port-{port}")
            except OSError:
                lease.close()
                return False
        self._held[port] = lease
        return True


def is_free(port: int, *, host: str = LOOPBACK) -> bool:
    """True if a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: closed connections linger
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _any_free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
