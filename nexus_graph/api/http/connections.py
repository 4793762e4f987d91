"""The connections of one process: their number, how long each may keep the process waiting, and how each ends.

One check of all connections, twice a second, enforces every limit: a request pays only for noting when each of its
phases began.
"""

import asyncio
import socket
from collections import Counter as Multiset
from collections import deque
from collections.abc import Callable, Sequence, Sized
from contextlib import suppress
from functools import partial
from heapq import nsmallest
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from nexus_graph.api.http.answer import NO_STORE, SAFE_HEADERS, Answer, Header, failed
from nexus_graph.api.http.asgi import HEADERS_MAX_BYTES, REFUSED
from nexus_graph.api.http.listening import Acceptor, Tls
from nexus_graph.api.http.protocol import HttpProtocol
from nexus_graph.api.http.request import RequestId
from nexus_graph.api.http.request_queue import RequestQueue
from nexus_graph.api.http.tls import Certificate
from nexus_graph.api.http.write_buffers import WriteBuffers
from nexus_graph.config import API_VERSIONS, Settings
from nexus_graph.errors import HeadersTooLarge, InvalidRequest, NexusError, Overloaded, RequestTimedOut
from nexus_graph.telemetry import CONNECTIONS, CONNECTIONS_CUT, CONNECTIONS_REFUSED, log

FIRST_BYTE_SECONDS: Final = 10.0
"""Seconds until a new connection is closed that sends nothing: it would hold one of the places for others."""

HEADER_SECONDS: Final = 10.0
"""Seconds for request line and headers, from first byte to last: a few packets, with time to send each again."""

BODY_SECONDS: Final = 30.0
"""Seconds for a body, from the end of its headers: 64 KiB at 2 KiB/s."""

SEND_SECONDS: Final = 30.0
"""Seconds in which a client must take some bytes of its response: as long as its body may take to come."""

_SHUTDOWN_IDLE_SECONDS: Final = 1.0
"""Seconds that a stopping server waits for a request on an idle connection: one may be on its way."""

_LOG = log("connections")

OPERATORS: Final = frozenset(
    {b"/livez", b"/readyz", b"/health", b"/metrics", *(b"/%b/health" % version.encode() for version in API_VERSIONS)}
)
"""Paths that are answered at once, even if other requests wait or are refused."""

LOOK_TICKS: Final = 5
"""Ticks between two checks of all connections: twice a second."""
_SURPLUS_MAX: Final = 64
"""Connections past the limit that are still read, as one may be an operator's."""
_SURPLUS_SECONDS: Final = 2.0
"""Seconds that each of them has for its request."""
_OTHERS_MAX: Final = 128
"""Descriptors reserved for the servers behind this process, for files, and for connections that are ending."""
CONNECTIONS_DEFAULT_MAX: Final = 10_000
"""The limit if neither a setting nor the limit on descriptors is lower: about 300 MB if all are used."""
_ROOM_SECONDS: Final = 1.0
"""A connection that was idle for longer may be closed to make room for a new one."""
_ROOM_AT_ONCE: Final = 64
"""Idle connections that one search collects, as a search costs time for each connection."""
_ROOM_PAUSE_SECONDS: Final = 0.05
_LINGER_SECONDS: Final = 1.0
"""Seconds for which a client's bytes after its last answer are read and dropped. Closing a connection with unread bytes
would reset it, and the client might lose the answer."""
_REPORT_SECONDS: Final = 10.0
"""Seconds between two log lines of one kind."""
_TOO_MANY: Final = "too many connections are open"
_HEAD_SLACK_BYTES: Final = 16 * 1024
"""Bytes for the request line and the marks between headers, beyond the limit of the headers."""

# What the process waits for on a connection: plain numbers, as each request passes most of them.
FIRST_BYTE: Final = 0
HEADER: Final = 1
BODY: Final = 2
IDLE: Final = 3
"""The next request."""
ANSWERING: Final = 4
"""Nothing: the process is at work, within its own deadlines."""
NEVER: Final = (float("inf"),)
_NAMES: Final = ("first_byte", "header", "body", "idle", "answering")


class Connections:
    """All connections of this process, and the check of them."""

    def __init__(self, settings: Settings, *, descriptors: int) -> None:
        """`descriptors` is how many files and sockets the process may have open."""
        room = descriptors - _OTHERS_MAX - _SURPLUS_MAX
        self.most = min(settings.connections_max or CONNECTIONS_DEFAULT_MAX, max(room, descriptors // 4, 1))
        self.write_buffers = WriteBuffers(settings)
        self.queue = RequestQueue(wait_max_seconds=settings.identify_wait_max_seconds)
        self.stopping = False
        self.head_max_bytes = HEADERS_MAX_BYTES + _HEAD_SLACK_BYTES
        waits = (FIRST_BYTE_SECONDS, HEADER_SECONDS, BODY_SECONDS)
        idle = _SHUTDOWN_IDLE_SECONDS
        self.limits: tuple[float, ...] = (*waits, float(settings.keep_alive_seconds), *NEVER)
        self.limits_of_surplus = tuple(min(_SURPLUS_SECONDS, limit) for limit in self.limits[:ANSWERING]) + NEVER
        self.limits_while_stopping = (idle, *waits[1:], idle, *NEVER)
        self._open: set[Any] = set()
        self._ending: dict[asyncio.Transport, tuple[float, float]] = {}
        """Connections that had their last answer: when each ends, and when it ends even if the answer was not read."""
        self._closable: deque[tuple[Connection, float]] = deque()
        self._looked_for_room = float("-inf")
        self._counts: Multiset[str] = Multiset()
        self._reported_at = float("-inf")
        self._acceptors: list[Acceptor] = []
        self._ticks = 0

    def listen(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.Protocol],
        *,
        shared: bool,
        certificate: Certificate | None = None,
    ) -> None:
        """Take connections from a socket, each for a protocol of its own; by TLS, if there is a certificate."""
        tls = None if certificate is None else Tls(certificate, self.limits[FIRST_BYTE], SEND_SECONDS)
        acceptor = Acceptor(listener, make, shared=shared, exhausted=self._exhausted, tls=tls)
        self._acceptors.append(acceptor)
        acceptor.open()

    async def stop(self) -> None:
        """Take the connections that wait to be accepted, and no others. From now on each answer is its connection's
        last, and an idle connection ends soon.
        """
        self.stopping = True
        for connection in self._http():
            connection.shutdown()
        await asyncio.gather(*(acceptor.stop() for acceptor in self._acceptors))

    def tick(self) -> None:
        """Call it ten times a second."""
        self.queue.measure()
        self._ticks += 1
        if self._ticks % LOOK_TICKS == 0:
            self.look()

    def look(self) -> None:
        """End connections that keep the process waiting for too long."""
        now = asyncio.get_running_loop().time()
        for connection in self._http():
            connection.look(now)
        for transport, (ends, aborts) in tuple(self._ending.items()):
            if now >= aborts:
                del self._ending[transport]
                self.cut("answer")
                transport.abort()
            elif now >= ends and not transport.get_write_buffer_size():
                del self._ending[transport]
                transport.close()
        CONNECTIONS.set(len(self._open))
        if self._counts and now - self._reported_at >= _REPORT_SECONDS:
            counts, self._counts, self._reported_at = self._counts, Multiset(), now
            _LOG.warning("connections_turned_away", open=len(self._open), most=self.most, **counts)

    def cut(self, phase: str) -> None:
        """Count a connection that was ended because its client was slow."""
        CONNECTIONS_CUT.labels(phase).inc()
        self._counts[f"cut_{phase}"] += 1

    def refused(self, cause: str) -> None:
        """Count a request, or a connection, that was refused, or ended, for want of room or time."""
        CONNECTIONS_REFUSED.labels(cause).inc()
        self._counts[f"refused_{cause}"] += 1

    def enter(self, connection: "Connection") -> None:
        """A new connection is open. Past the limit the longest idle connection makes room for it; without an idle one
        the new connection gets 503.
        """
        self._open = connection.connections
        past = len(self._open) - self.most
        if self.stopping:
            connection.limits = self.limits_while_stopping
        elif past > 0 and not self._make_room():
            if past > _SURPLUS_MAX:
                connection.turn_away()
            else:
                connection.limits = self.limits_of_surplus
                connection.surplus = True

    def end(self, transport: asyncio.Transport) -> None:
        """Watch a connection that had its last answer until it is closed."""
        now = asyncio.get_running_loop().time()
        self._ending[transport] = now + _LINGER_SECONDS, now + SEND_SECONDS

    def gone(self, transport: asyncio.Transport) -> None:
        """The connection is closed."""
        self._ending.pop(transport, None)

    def _make_room(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._closable and now - self._looked_for_room >= _ROOM_PAUSE_SECONDS:
            self._looked_for_room = now
            idle = ((each, each.since) for each in self._http() if now - each.since >= _ROOM_SECONDS)
            waited_for = (found for found in idle if found[0].is_waited_for)
            self._closable.extend(nsmallest(_ROOM_AT_ONCE, waited_for, key=lambda found: found[1]))
        while self._closable:
            connection, since = self._closable.popleft()
            if connection.since == since and connection.is_waited_for:
                self.refused("room")
                connection.make_room()
                return True
        return False

    def _http(self) -> list["Connection"]:
        """The open connections but WebSockets, which have limits of their own."""
        return [connection for connection in self._open if isinstance(connection, Connection)]

    def _exhausted(self) -> None:
        self.refused("descriptors")
        self._make_room()


class Connection(HttpProtocol):
    """uvicorn's HTTP protocol, with a limit on each wait for the client."""

    def __init__(self, connections: Connections, **given: Any) -> None:
        """`given`: by uvicorn."""
        super().__init__(**given)
        self.all = connections
        self.limits = connections.limits
        self.phase = FIRST_BYTE
        self.since = self.loop.time()
        self.surplus = False
        """True past the limit: the connection gets one answer, a refusal unless an operator's path is asked."""
        self.ended = False
        self._stuck_since = float("inf")
        """Since when the client has not read an answer."""
        self.timed_phase = FIRST_BYTE
        """The phase that began at `since`: a request that comes whole needs none of its own."""
        self._head_bytes = 0
        self._socket: asyncio.Transport
        self._is_websocket = False
        self._is_refused = False
        """The request whose head was read last is refused."""
        self._lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        self._socket = transport
        self.all.write_buffers.opened(transport)
        super().connection_made(transport)
        self.flow = _Flow(self.transport, self.pipeline)
        self.all.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self._lost = True
        self.all.gone(self._socket)
        self.all.write_buffers.resumed(self._socket)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return  # read and dropped, so that the last answer is not lost
        self.parse(data)
        if self.phase <= BODY:
            self._came_in_part(len(data))

    def _came_in_part(self, size: int) -> None:
        if self.timed_phase != self.phase:
            self.timed_phase = self.phase
            self.since = self.loop.time()
            self._head_bytes = 0
        if self.phase == HEADER:
            self._head_bytes += size
            if self._head_bytes > self.all.head_max_bytes and not self._answers_an_earlier_one():
                self.refuse(HeadersTooLarge(f"the headers are too large: at most {self.all.head_max_bytes} bytes"))

    def eof_received(self) -> None:
        """Called by the loop, which closes the connection then."""
        self.ended = True

    def pause_writing(self) -> None:
        """Called by the transport: the client does not read."""
        self._stuck_since = self.loop.time()
        super().pause_writing()
        self.all.write_buffers.paused(self._socket)

    def resume_writing(self) -> None:
        """Called by the transport: the client has read enough."""
        self._stuck_since = float("inf")
        super().resume_writing()
        self.all.write_buffers.resumed(self._socket)

    def on_message_begin(self) -> None:
        """Called by the parser at a request's first byte."""
        self.phase, self.timed_phase = HEADER, IDLE
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.phase = BODY
        cycle: Any = self.cycle
        self._is_refused = (cycle is None or cycle.response_complete) and self.must_refuse()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        cycle: Any = self.cycle
        if cycle is not None and not self._ignored:  # else a WebSocket is asked for, or the head is parsed again
            if cycle.response_complete:
                self._enter(IDLE)  # the answer came before the whole request was read
            else:
                self.phase = ANSWERING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when an answer was written whole, directly or by ASGI."""
        self.server_state.total_requests += 1
        if self.ended:
            return
        # Nothing was read while an earlier request was answered: the next request's time begins now.
        self.since = self.loop.time()
        if not self.pipeline:
            self.phase = IDLE if self.phase == ANSWERING else self.phase
            if self.flow.read_paused:
                self.flow.resume_reading()
        else:
            cycle, app = self.pipeline.pop()
            self.flow.resume_reading()
            self._start_asgi_task(cycle, app)

    def must_refuse(self) -> bool:
        """True if the request whose head was read cannot be answered in time; counts it as refused."""
        if not (self.surplus or self.all.queue.overloaded):
            return False
        if self.parser.should_upgrade() or self.url.partition(b"?")[0].removesuffix(b"/") in OPERATORS:
            return False
        self.all.refused("connections" if self.surplus else "wait")
        return True

    def handle_websocket_upgrade(self) -> None:
        """Called when a request turned out to ask for a WebSocket, which has limits of its own."""
        if self.surplus:
            self.turn_away()
            return
        self._is_websocket = True
        super().handle_websocket_upgrade()

    def shutdown(self) -> None:
        """Called when the server stops: the current answer is the last, and a request on its way may still come."""
        if self.limits is not self.all.limits_while_stopping:
            self.limits = self.all.limits_while_stopping
            self._enter(self.phase)
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False

    def look(self, now: float) -> None:
        """End the connection if it has kept the process waiting for too long."""
        if self.ended:
            return
        if now - self._stuck_since > SEND_SECONDS:
            self.all.cut("answer")
            self._socket.abort()
        elif now - self.since > self.limits[self.phase]:
            self._too_slow()

    def make_room(self) -> None:
        """End the connection at once, to make room."""
        if self.phase in (HEADER, BODY):
            self.refuse(Overloaded(_TOO_MANY))
        else:
            self.transport.close()
        self._socket.close()

    def turn_away(self) -> None:
        """Refuse the connection itself."""
        self.all.refused("connections")
        self.refuse(Overloaded(_TOO_MANY))

    def refuse(self, error: NexusError) -> None:
        """Answer the current request with an error, and end the connection."""
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if cycle is None or not getattr(cycle, "response_started", False) or cycle.response_complete:
            correlation_id = RequestId(None).text
            self._socket.write(self.written_out(failed(error, correlation_id), correlation_id, ends=True))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Called where the bytes are not HTTP."""
        self.refuse(InvalidRequest(msg))

    def written_out(self, answer: Answer, correlation_id: str, *, ends: bool) -> bytes:
        """The answer as HTTP/1.1 has it; `ends`: the connection ends with it."""
        return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%bx-request-id: %b\r\n%b%b\r\n%b" % (
            STATUS_LINE[answer.status],
            answer.content_type,
            len(answer.body),
            _lines((*self.server_state.default_headers, *answer.headers)),
            correlation_id.encode(),
            _SAFE_LINES,
            _CLOSE_LINE if ends else b"",
            answer.body,
        )

    def _enter(self, phase: int) -> None:
        self.phase = phase
        self.since = self.loop.time()

    def _too_slow(self) -> None:
        if self.phase == IDLE or (self.phase == FIRST_BYTE and self.all.stopping):
            self.transport.close()
        elif self.phase == FIRST_BYTE:
            # A browser that opens connections ahead would take this answer for the answer to its next request.
            self.all.cut("first_byte")
            self.transport.close()
        elif not self._answers_an_earlier_one():
            phase = _NAMES[self.phase]
            self.all.cut(phase)
            seconds = self.limits[self.phase]
            self.refuse(RequestTimedOut(f"the request's {phase} was not complete within {seconds:g} s"))

    @property
    def is_waited_for(self) -> bool:
        """True if the process waits for the client and owes it no answer."""
        return self.phase != ANSWERING and not self.ended and not self._answers_an_earlier_one()

    def _answers_an_earlier_one(self) -> bool:
        if self.phase == BODY:
            return bool(self.pipeline)
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        start = super()._start_asgi_task
        if self._is_refused:
            self._is_refused = False
            cycle.scope[REFUSED] = True
        elif cycle.scope["raw_path"] not in OPERATORS:
            self.all.queue.begin(start, cycle, partial(self._answer_by_asgi, cycle, app, queued=True))
            return
        start(cycle, partial(self._answer_by_asgi, cycle, app, queued=False))

    async def _answer_by_asgi(
        self, cycle: Any, app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, queued: bool
    ) -> None:
        """Answer a request; say so if it is the connection's last."""
        if queued:
            self.all.queue.begun()
        if self.is_last:
            cycle.keep_alive = False
        await app(scope, receive, send)

    @property
    def is_last(self) -> bool:
        """True if the current answer ends the connection."""
        return self.surplus or (self.all.stopping and not self.pipeline)

    def _unset_keepalive_if_required(self) -> None:
        """Replaces uvicorn's timer: there is none here."""

    def _end(self, transport: asyncio.Transport) -> None:
        if self._lost:
            return
        self.ended = True
        self.all.end(transport)
        if self._is_websocket or self.scheme == "https":
            transport.close()  # TLS has an end of its own, and still reads the client's
            return
        if self.flow.read_paused:
            transport.resume_reading()
        # The client sees the end after its last answer; its bytes are still read.
        with suppress(OSError, RuntimeError):
            transport.write_eof()


class _Flow(FlowControl):
    """Stops reading while requests wait behind another. uvicorn's own flow control would read thousands more with each
    answer to a client that does not wait for answers.
    """

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


def _lines(headers: Sequence[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


_SAFE_LINES: Final = _lines((*SAFE_HEADERS, NO_STORE))
_CLOSE_LINE: Final = b"connection: close\r\n"
