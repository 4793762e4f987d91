"""Accept connections from a listening socket, and stop without losing one.

The loop's own server accepts one connection a turn (libuv since 1.46): under load turns are long, and new clients wait
for seconds. Here a turn accepts several, more each time while more wait; but few at first, so that processes that share
a socket share its clients.
"""

import asyncio
import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from nexus_graph.api.http.tls import Certificate
from nexus_graph.config import is_loopback
from nexus_graph.telemetry import HANDSHAKES_FAILED, log

BACKLOG: Final = 2_048
"""Connections that wait to be accepted: the kernel refuses more, and lowers the number to its own limit."""

_LOG = log("listening")

_FEW: Final = 4
_MANY: Final = 256
"""Connections accepted in one turn, at first and at most: each costs about 0.2 ms until its request is read."""
_PAUSE_SECONDS: Final = 0.1
"""Seconds without accepting after the process ran out of descriptors."""
_SETTLE_SECONDS: Final = 0.5
"""Seconds for a handshake that had begun: a round trip and a retransmission."""
_HANDSHAKES_MAX: Final = 1_024
"""TLS handshakes under way; past it the oldest ends."""
_SETTLE_HERE_SECONDS: Final = 0.05
"""The same on a loopback address."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_CLOSED: Final = frozenset({errno.EINVAL, errno.EBADF})
"""Another process that shares the socket has shut it down."""

_SO_ATTACH_FILTER: Final = 26
_FLAGS, _SYN_ACK, _SYN = 13, 0x12, 0x02
_LOAD_BYTE, _AND, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x54, 0x15, 0x06
_WHOLE: Final = 0xFFFF_FFFF
_NO_NEW_CLIENTS: Final = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (_LOAD_BYTE, 0, 0, _FLAGS),
        (_AND, 0, 0, _SYN_ACK),
        (_JUMP_IF_EQUAL, 0, 1, _SYN),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, _WHOLE),
    )
)
"""A filter for a listening socket, in the kernel's own language: TCP segments that open a connection are dropped."""


def refuse_new(listener: socket.socket) -> None:
    """Drop new handshakes, for every process that shares the socket. Connections that wait to be accepted stay, while
    closing the socket would reset them. A client's kernel retries after a second, and finds this server closed or its
    successor.

    Linux only. Elsewhere connections that come in the moment of closing are reset.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(_NO_NEW_CLIENTS, len(_NO_NEW_CLIENTS))
    program = struct.pack("@HP", len(_NO_NEW_CLIENTS) // 8, ctypes.addressof(code))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError as error:
        _LOG.info("listener_not_filtered", error=errno.errorcode.get(error.errno or 0, "unknown"))


class Tls(NamedTuple):
    """How connections of a socket are encrypted."""

    certificate: Certificate
    handshake_seconds: float
    """A handshake that takes longer ends the connection."""
    end_seconds: float
    """So long the client may take to read what it was sent and to end the connection after us."""


class Acceptor:
    """Accepts the connections of one socket, for protocols that `make` makes."""

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.Protocol],
        *,
        shared: bool,
        exhausted: Callable[[], None],
        tls: Tls | None = None,
    ) -> None:
        """`shared`: other processes go on with the socket, unless its maker ends it for all. `exhausted` is called when
        the process has no descriptor left.
        """
        self._shared = shared
        self._listener = listener
        self._make = make
        self._exhausted = exhausted
        self._loop = asyncio.get_running_loop()
        self._at_once = _FEW
        self._tls = tls
        self._opening: dict[asyncio.Task[None], None] = {}
        """Connections that are not open yet: with TLS until the handshake has ended; the oldest stands first."""
        self._pause: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Accept connections from now on."""
        self._pause = None
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    async def stop(self) -> None:
        """Accept the connections that wait, then close the socket."""
        if not self._shared:
            refuse_new(self._listener)
        here = is_loopback(str(self._listener.getsockname()[0]))
        await asyncio.sleep(_SETTLE_HERE_SECONDS if here else _SETTLE_SECONDS)
        while self._accept():
            pass
        self._loop.remove_reader(self._listener.fileno())
        if self._pause is not None:
            self._pause.cancel()
        self._listener.close()
        if self._opening:
            _, hanging = await asyncio.wait([*self._opening], timeout=_SETTLE_SECONDS)
            for task in hanging:
                task.cancel()

    def _accept(self) -> bool:
        """Accept some; True if more may wait."""
        for _ in range(self._at_once):
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                self._at_once = _FEW
                return False
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest()
                elif error.errno in _CLOSED:
                    self._loop.remove_reader(self._listener.fileno())
                else:
                    continue  # the client has left
                return False
            client.setblocking(False)
            task = self._loop.create_task(self._connect(client))
            if self._tls is not None and len(self._opening) >= _HANDSHAKES_MAX:
                oldest = next(iter(self._opening))
                del self._opening[oldest]
                oldest.cancel()
            self._opening[task] = None
            task.add_done_callback(self._opened)
        self._at_once = min(2 * self._at_once, _MANY)
        return True

    async def _connect(self, client: socket.socket) -> None:
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(self._make, client)
                return
            await self._loop.connect_accepted_socket(
                self._make,
                client,
                ssl=self._tls.certificate.context,
                ssl_handshake_timeout=self._tls.handshake_seconds,
                ssl_shutdown_timeout=self._tls.end_seconds,
            )
        except OSError:
            client.close()  # the client has left meanwhile
            if self._tls is not None:
                HANDSHAKES_FAILED.inc()
        except asyncio.CancelledError:
            client.close()
            HANDSHAKES_FAILED.inc()
            raise

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.pop(task, None)

    def _rest(self) -> None:
        self._exhausted()
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self.open)
