"""GraphQL over WebSocket, by the graphql-transport-ws protocol and no other."""

import asyncio
import re
from contextlib import aclosing
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from nexus_graph import telemetry
from nexus_graph.api.graphql.engine import Answering, Request, RequestError, error_of, read_request, refused
from nexus_graph.api.http.answer import encode, failed
from nexus_graph.api.http.body import decode_object
from nexus_graph.api.http.followers import Places, SendTimeout
from nexus_graph.api.http.request import RequestId
from nexus_graph.config import Settings
from nexus_graph.door.audit import Outcome, What
from nexus_graph.door.door import Door
from nexus_graph.door.visit import OPEN
from nexus_graph.errors import (
    CloseCode,
    Code,
    InvalidRequest,
    NexusError,
    Overloaded,
    RateLimited,
    Unauthenticated,
    Unavailable,
)

OPERATIONS_MAX: Final = 10
"""Operations of one WebSocket at once: a page subscribes to a few."""

INIT_SECONDS: Final = 5.0
"""The longest from a WebSocket's opening to its `connection_init`: clients send it at once."""

PROTOCOL: Final = "graphql-transport-ws"
_REASON_MAX_BYTES: Final = 123
"""The room for a reason in a close frame (RFC 6455, section 5.5)."""
_LOG = telemetry.log("websocket")
_ANSWERS: Final = telemetry.SUBSCRIPTION_ANSWERS.labels("websocket")
_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}").fullmatch
_is_origin = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[A-Za-z0-9.:\[\]_-]{1,260}|null").fullmatch


class Closed(Exception):
    """The socket must be closed with this code and reason of the protocol."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:_REASON_MAX_BYTES].decode(errors="ignore")


class GraphQLSockets:
    """The ASGI endpoint of all sockets of a process."""

    def __init__(self, answering: Answering, settings: Settings, places: Places) -> None:
        self._answering = answering
        self._settings = settings
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            self._places.require()
            if (refusal := _refusal(scope, self._settings)) is not None:
                await _refuse(refusal, scope, send)
            else:
                with self._places.taken():
                    await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
                    await _Socket(self._answering, scope, receive, send).serve()
        except Overloaded as error:
            await self._turn_away(error, send)
        except OSError:
            pass  # the client is gone

    async def _turn_away(self, error: Overloaded, send: Send) -> None:
        """Refuse the socket, since too many are open. Clients of the protocol connect again by themselves."""
        _LOG.warning("socket_refused", reason="too many sockets", most=self._places.most)
        answer = failed(error, RequestId(None).text)
        headers = [(b"content-type", answer.content_type), *answer.headers]
        await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": answer.body})


def _refusal(scope: Scope, settings: Settings) -> Closed | None:
    """The reason to refuse the socket; None if there is none."""
    if not _is_admitted(scope, settings):
        return Closed(CloseCode.FORBIDDEN, "this page's origin is not let in: NEXUS_CORS_ORIGINS names those that are")
    if PROTOCOL not in scope["subprotocols"]:
        return Closed(CloseCode.SUBPROTOCOL_NOT_ACCEPTABLE, f"Subprotocol not acceptable: {PROTOCOL} is spoken here")
    return None


async def _refuse(refusal: Closed, scope: Scope, send: Send) -> None:
    """Accept the socket and close it with a reason: browsers show a page no reason for a socket that was not accepted.

    The subprotocol is ours or the client's first one: without a subprotocol, a browser would close the socket itself.
    """
    origin = scope["header"].get(b"origin", b"").decode("latin-1")
    facts = {"origin": origin} if _is_origin(origin) else {}
    _LOG.warning("socket_refused", code=refusal.code, reason=refusal.reason, **facts)
    spoken = next((one for one in (PROTOCOL, *scope["subprotocols"]) if one in scope["subprotocols"]), None)
    await send({"type": "websocket.accept", "subprotocol": spoken if spoken and _is_token(spoken) else None})
    await send({"type": "websocket.close", "code": refusal.code, "reason": refusal.reason})


def _is_admitted(scope: Scope, settings: Settings) -> bool:
    """Whether the page's origin may connect. Browsers send no preflight before they open a socket."""
    origin, host = scope["header"].get(b"origin"), scope["header"].get(b"host")
    if origin is None or "*" in settings.cors_origins or origin.decode("latin-1") in settings.cors_origins:
        return True
    return bool(origin.partition(b"://")[2] == host)


class _Socket:
    def __init__(self, answering: Answering, scope: Scope, receive: Receive, send: Send) -> None:
        self._answering = answering
        self._scope = scope
        self._receive = receive
        self._send_raw = send
        self._introduced = False
        self._visit = OPEN
        self._expiring: asyncio.Task[None] | None = None
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._cut = asyncio.get_running_loop().create_future()
        self._send_timeout = SendTimeout("websocket", self._too_slow)

    async def serve(self) -> None:
        """Serve until either side closes."""
        reading = asyncio.create_task(self._read())
        stopping = asyncio.create_task(self._scope["state"]["stopping"].wait())
        try:
            await asyncio.wait({reading, stopping, self._cut}, return_when=asyncio.FIRST_COMPLETED)
            if self._cut.done():
                await self._close(self._cut.result())
            elif reading.done():
                reading.result()
            else:
                await self._close(Closed(CloseCode.GOING_AWAY, "the server stops"))
        except Closed as closed:
            await self._close(closed)
        finally:
            self._send_timeout.close()
            tasks = [reading, stopping, *self._operations.values()]
            if self._expiring is not None:
                tasks.append(self._expiring)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        """Raises Closed."""
        try:
            async with asyncio.timeout(INIT_SECONDS) as introduction:
                while (event := await self._receive())["type"] == "websocket.receive":
                    await self._handle(self._message(event))
                    if self._introduced:
                        introduction.reschedule(None)
        except TimeoutError:
            raise Closed(CloseCode.INITIALISATION_TIMEOUT, "connection_init did not come in time") from None

    def _message(self, event: Message) -> dict[str, Any]:
        text = event.get("text")
        if text is None:
            raise Closed(CloseCode.BAD_REQUEST, "messages must be text")
        try:
            raw = text.encode()
            return decode_object(raw, what="the message")
        except (InvalidRequest, UnicodeEncodeError) as error:
            raise Closed(
                CloseCode.BAD_REQUEST, error.message if isinstance(error, InvalidRequest) else "not a message"
            ) from None

    async def _handle(self, message: dict[str, Any]) -> None:
        kind, operation_id, payload = message.get("type"), message.get("id"), message.get("payload")
        if kind == "connection_init":
            if self._introduced:
                raise Closed(CloseCode.TOO_MANY_INITIALISATIONS, "too many initialisation requests")
            # The place to admit or refuse a client.
            if payload is not None and not isinstance(payload, dict):
                raise Closed(CloseCode.BAD_REQUEST, "the payload of connection_init must be an object")
            await self._admit((payload or {}).get("authorization"))
            self._introduced = True
            await self._send({"type": "connection_ack"})
        elif kind == "ping":
            await self._send({"type": "pong"})
        elif kind == "subscribe":
            await self._subscribe(operation_id, payload)
        elif kind == "complete" and isinstance(operation_id, str):
            if (running := self._operations.pop(operation_id, None)) is not None:
                running.cancel()
        elif kind != "pong":
            raise Closed(CloseCode.BAD_REQUEST, "no such message")

    async def _admit(self, authorization: object) -> None:
        """Begin the caller's visit, where the door asks for credentials: those of `connection_init`, or of the
        handshake's headers. Raises Closed.
        """
        door: Door | None = self._scope["state"].get("door")
        if door is None:
            return
        headers, client = self._scope["header"], self._scope["client"]
        address, request_id = client[0] if client else "", RequestId(None).uuid
        try:
            self._visit = await door.enter(headers, address, request_id, said=authorization)
            self._visit.note(What.SOCKET, Outcome.ANSWERED)
        except Unauthenticated as error:
            code = CloseCode.FORBIDDEN if error.sent else CloseCode.UNAUTHORIZED
            raise Closed(code, error.message) from None
        except InvalidRequest as error:
            raise Closed(CloseCode.BAD_REQUEST, error.message) from None
        except (RateLimited, Unavailable) as error:
            raise Closed(CloseCode.TRY_AGAIN_LATER, error.message) from None
        self._expiring = asyncio.create_task(self._expire())

    async def _expire(self) -> None:
        """Cut the socket once its credential has expired or was revoked."""
        try:
            await self._visit.ended()
            closed = Closed(CloseCode.FORBIDDEN, "the credentials are no longer valid")
        except Unavailable as error:
            closed = Closed(CloseCode.TRY_AGAIN_LATER, error.message)
        if not self._cut.done():
            self._cut.set_result(closed)

    async def _subscribe(self, operation_id: Any, payload: Any) -> None:
        if not self._introduced:
            raise Closed(CloseCode.UNAUTHORIZED, "unauthorized")
        if not isinstance(operation_id, str) or not operation_id or not isinstance(payload, dict):
            raise Closed(CloseCode.BAD_REQUEST, "subscribe needs an id and a payload")
        request = _request(payload)
        if operation_id in self._operations:
            raise Closed(CloseCode.SUBSCRIBER_EXISTS, "there is a subscriber of this id already")
        if len(self._operations) >= OPERATIONS_MAX:
            refusal = refused(Code.LIMIT_EXCEEDED, f"too many operations on this socket: at most {OPERATIONS_MAX}")
            await self._send({"id": operation_id, "type": "error", "payload": refusal.errors})
            return
        self._operations[operation_id] = asyncio.create_task(self._operate(operation_id, request))

    async def _operate(self, operation_id: str, request: Request) -> None:
        with telemetry.SUBSCRIPTIONS.labels("websocket").track_inprogress():
            try:
                end = await self._answered(operation_id, request)
                self._operations.pop(operation_id, None)
                await self._send({"id": operation_id, **end})
            except OSError:
                pass  # the client is gone; `_read` ends too

    async def _answered(self, operation_id: str, request: Request) -> dict[str, Any]:
        """Send all answers; returns the message that ends the operation."""
        request_id = RequestId(None)
        state, visit = self._scope["state"], self._visit.of_operation(request_id.uuid)
        try:
            prepared = await self._answering.prepare(request, state, visit)
            async with aclosing(self._answering.answers(prepared, state, request_id, visit)) as answers:
                async for answer in answers:
                    await self._send({"id": operation_id, "type": "next", "payload": answer})
                    _ANSWERS.inc()
        except RequestError as error:
            return {"type": "error", "payload": error.errors}
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - the client gets a masked error
            if not isinstance(error, NexusError):
                _LOG.error("operation_failed", correlation_id=request_id.text, error=telemetry.error_name(error))
            return {"type": "error", "payload": [error_of(error, request_id.text)]}
        return {"type": "complete"}

    async def _send(self, message: dict[str, Any]) -> None:
        with self._send_timeout:
            await self._send_raw({"type": "websocket.send", "text": encode(message).decode()})

    def _too_slow(self) -> None:
        if not self._cut.done():
            self._cut.set_result(
                Closed(CloseCode.TRY_AGAIN_LATER, "too slow: come again, and go on after the last event you have")
            )

    async def _close(self, closed: Closed) -> None:
        """Send the code and the reason, if the client still reads."""
        try:
            async with asyncio.timeout(self._send_timeout.seconds):
                await self._send_raw({"type": "websocket.close", "code": closed.code, "reason": closed.reason})
        except (TimeoutError, OSError):
            pass


def _request(payload: dict[str, Any]) -> Request:
    """The request of a subscribe message. Raises Closed if the payload has another shape."""
    try:
        request = read_request(payload)
    except RequestError as error:
        raise Closed(CloseCode.BAD_REQUEST, error.errors[0]["message"]) from None
    except InvalidRequest as error:
        raise Closed(CloseCode.BAD_REQUEST, error.message) from None
    if request.query is None and request.document_id is None and request.extensions is None:
        raise Closed(CloseCode.BAD_REQUEST, "query must be a string")
    return request
