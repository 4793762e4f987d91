"""Answers as server-sent events: one connection an operation, by the graphql-sse protocol."""

import asyncio
from contextlib import aclosing
from time import monotonic
from typing import Any, Final

from starlette.types import Receive, Send

from nexus_graph import telemetry
from nexus_graph.api.graphql.engine import Answering, PreparedOperation, RequestError
from nexus_graph.api.graphql.transport.followers import SendTimeout
from nexus_graph.api.http.answer import EVENT_STREAM, encode
from nexus_graph.api.http.request import Post

KEEP_ALIVE_SECONDS: Final = 12.0
"""Seconds between two comments on an idle event stream: proxies close a silent connection after 15 or more."""

_COMPLETE: Final = b"event: complete\ndata:\n\n"
_KEEP_ALIVE: Final = b":\n\n"
_ANSWERS: Final = telemetry.SUBSCRIPTION_ANSWERS.labels("sse")


async def stream(answering: Answering, prepared: PreparedOperation, post: Post, receive: Receive, send: Send) -> None:
    """Send answers until the last one, until the client leaves or is too slow, or until the server stops."""
    headers = [(b"content-type", EVENT_STREAM), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    events = _Events(send)
    tasks = [
        asyncio.create_task(work)
        for work in (
            _answer(answering, prepared, post, events),
            events.stay_alive(),
            events.too_slow.wait(),
            _left(receive),
            post.state["stopping"].wait(),
        )
    ]
    with telemetry.SUBSCRIPTIONS.labels("sse").track_inprogress():
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            events.send_timeout.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Events:
    """Events on their way to a client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sent_at = monotonic()
        self.too_slow = asyncio.Event()
        self.send_timeout = SendTimeout("sse", self.too_slow.set)

    async def write(self, event: bytes, *, last: bool = False) -> None:
        """Send the event as soon as the client has taken enough of the earlier ones."""
        self._sent_at = monotonic()
        with self.send_timeout:
            await self._send({"type": "http.response.body", "body": event, "more_body": not last})

    async def stay_alive(self) -> None:
        """Send a comment whenever nothing was sent for KEEP_ALIVE_SECONDS."""
        while True:
            pause_seconds = self._sent_at + KEEP_ALIVE_SECONDS - monotonic()
            if pause_seconds > 0:
                await asyncio.sleep(pause_seconds)
            else:
                await self.write(_KEEP_ALIVE)


async def _answer(answering: Answering, prepared: PreparedOperation, post: Post, events: _Events) -> None:
    try:
        async with aclosing(answering.answers(prepared, post.state, post.request_id)) as answers:
            async for answer in answers:
                await _write_answer(events, answer)
    except RequestError as error:
        await _write_answer(events, {"errors": error.errors})
    await events.write(_COMPLETE, last=True)


async def _write_answer(events: _Events, answer: dict[str, Any]) -> None:
    await events.write(b"event: next\ndata: %b\n\n" % encode(answer))
    _ANSWERS.inc()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
