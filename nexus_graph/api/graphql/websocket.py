"""GraphQL over WebSocket, by the graphql-transport-ws protocol and no other."""

import asyncio
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from starlette.types import Message, Receive, Scope, Send

from nexus_graph import telemetry
from nexus_graph.api.body import decode_object
from nexus_graph.api.graphql.answering import Answering, requested
from nexus_graph.api.graphql.documents import RequestError, request_error
from nexus_graph.api.middleware import RequestId, header
from nexus_graph.api.responses import encode, failure_of, graphql_extensions
from nexus_graph.config import Settings
from nexus_graph.errors import InvalidRequest, NexusError

PROTOCOL: Final = "graphql-transport-ws"
TOO_SLOW: Final = 1013
GOING_AWAY: Final = 1001
_REASON_MAX_CHARACTERS: Final = 100
"""A close frame holds 123 bytes of reason."""
_LOG = telemetry.log("websocket")


class _Message(NamedTuple):
    type: Any
    id: Any
    payload: Any


class Closed(Exception):
    """The socket is to be closed, with this code and reason of the protocol."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def check_connection_init(payload: object) -> None:
    """Judge how a client introduces itself: who may come in is decided here. Raises Closed."""
    if payload is not None and not isinstance(payload, dict):
        raise Closed(4400, "the payload of connection_init must be an object")


class GraphQLSockets:
    """The ASGI endpoint of all sockets of a process."""

    def __init__(self, answering: Answering, settings: Settings) -> None:
        self._answering = answering
        self._settings = settings
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        crowded = self._open >= self._settings.sockets_max
        if PROTOCOL not in scope["subprotocols"] or crowded or not _is_welcome(scope, self._settings):
            await send({"type": "websocket.close"})  # before it was accepted: 403
            return
        self._open += 1
        try:
            await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
            await _Socket(self._answering, scope, receive, send, self._settings).serve()
        except OSError:
            pass  # the client is gone
        finally:
            self._open -= 1


def _is_welcome(scope: Scope, settings: Settings) -> bool:
    """Pages of other origins are kept out unless they are let in: browsers ask no leave before they open a socket."""
    origin, host = header(scope, b"origin"), header(scope, b"host")
    if origin is None or "*" in settings.cors_origins or origin.decode("latin-1") in settings.cors_origins:
        return True
    return origin.partition(b"://")[2] == host


class _Socket:
    def __init__(self, answering: Answering, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        self._answering = answering
        self._scope = scope
        self._receive = receive
        self._send_raw = send
        self._settings = settings
        self._introduced = False
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._cut = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Until either side closes."""
        reading = asyncio.create_task(self._read())
        stopping = asyncio.create_task(self._scope["state"]["stopping"].wait())
        try:
            await asyncio.wait({reading, stopping, self._cut}, return_when=asyncio.FIRST_COMPLETED)
            if self._cut.done():
                await self._close(self._cut.result())
            elif reading.done():
                reading.result()
            else:
                await self._close(Closed(GOING_AWAY, "the server stops"))
        except Closed as closed:
            await self._close(closed)
        finally:
            tasks = (reading, stopping, *self._operations.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        """Raises Closed."""
        try:
            async with asyncio.timeout(self._settings.socket_init_seconds) as introduction:
                while (event := await self._receive())["type"] == "websocket.receive":
                    await self._heed(self._message(event))
                    if self._introduced:
                        introduction.reschedule(None)
        except TimeoutError:
            raise Closed(4408, "connection_init did not come in time") from None

    def _message(self, event: Message) -> _Message:
        text = event.get("text")
        if text is None:
            raise Closed(4400, "messages must be text")
        try:
            raw = text.encode()
            found = decode_object(raw, depth_max=self._settings.json_depth_max, what="the message")
        except (InvalidRequest, UnicodeEncodeError) as error:
            raise Closed(4400, f"{error}"[:_REASON_MAX_CHARACTERS]) from None
        return _Message(found.get("type"), found.get("id"), found.get("payload"))

    async def _heed(self, message: _Message) -> None:
        if message.type == "connection_init":
            if self._introduced:
                raise Closed(4429, "too many initialisation requests")
            check_connection_init(message.payload)
            self._introduced = True
            await self._send({"type": "connection_ack"})
        elif message.type == "ping":
            await self._send({"type": "pong"})
        elif message.type == "subscribe":
            await self._subscribe(message)
        elif message.type == "complete" and isinstance(message.id, str):
            if (running := self._operations.pop(message.id, None)) is not None:
                running.cancel()
        elif message.type != "pong":
            raise Closed(4400, "no such message")

    async def _subscribe(self, message: _Message) -> None:
        if not self._introduced:
            raise Closed(4401, "unauthorized")
        if not isinstance(message.id, str) or not message.id or not isinstance(message.payload, dict):
            raise Closed(4400, "subscribe needs an id and a payload")
        if message.id in self._operations:
            raise Closed(4409, "there is a subscriber of this id already")
        if len(self._operations) >= self._settings.socket_operations_max:
            most = self._settings.socket_operations_max
            errors = [request_error(f"too many operations on this socket: at most {most}", "LIMIT_EXCEEDED")]
            await self._send({"id": message.id, "type": "error", "payload": errors})
            return
        self._operations[message.id] = asyncio.create_task(self._operate(message.id, message.payload))

    async def _operate(self, operation_id: str, payload: dict[str, Any]) -> None:
        with telemetry.SUBSCRIPTIONS.labels("websocket").track_inprogress():
            try:
                end = await self._answered(operation_id, payload)
                self._operations.pop(operation_id, None)
                await self._send({"id": operation_id, **end})
            except Closed as closed:
                if not self._cut.done():
                    self._cut.set_result(closed)
            except OSError:
                pass  # the client is gone, which the reader hears as well

    async def _answered(self, operation_id: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send all answers; the message that ends them."""
        identified = RequestId(None)
        state = self._scope["state"]
        try:
            asked = await self._answering.asked(requested(payload), state)
            async with aclosing(self._answering.answers(asked, state, identified)) as answers:
                async for answer in answers:
                    await self._send({"id": operation_id, "type": "next", "payload": answer})
                    telemetry.SUBSCRIPTION_ANSWERS.labels("websocket").inc()
        except RequestError as error:
            return {"type": "error", "payload": error.errors}
        except (Closed, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer that tells nothing of it
            failure = failure_of(error)
            if not isinstance(error, NexusError):
                _LOG.error("operation_failed", correlation_id=identified.text, error=telemetry.error_name(error))
            extensions = graphql_extensions(failure, identified.text)
            return {"type": "error", "payload": [{"message": failure.message, "extensions": extensions}]}
        return {"type": "complete"}

    async def _send(self, message: dict[str, Any]) -> None:
        """Raises Closed if the client takes too long to take it."""
        try:
            async with asyncio.timeout(self._settings.socket_send_seconds):
                await self._send_raw({"type": "websocket.send", "text": encode(message).decode()})
        except TimeoutError:
            telemetry.SUBSCRIBERS_CUT.labels("websocket").inc()
            _LOG.warning("subscriber_too_slow")
            raise Closed(TOO_SLOW, "too slow: come again, and go on after the last event you have") from None

    async def _close(self, closed: Closed) -> None:
        """Tell why, if the client still listens."""
        try:
            async with asyncio.timeout(self._settings.socket_send_seconds):
                await self._send_raw({"type": "websocket.close", "code": closed.code, "reason": closed.reason})
        except (TimeoutError, OSError):
            pass
