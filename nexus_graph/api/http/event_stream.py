"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) to one client."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from starlette.types import Receive, Send

from nexus_graph import telemetry
from nexus_graph.api.http.answer import EVENT_STREAM
from nexus_graph.api.http.followers import SendTimeout
from nexus_graph.api.http.request import Post

KEEP_ALIVE_SECONDS: Final = 12.0
"""Seconds between two comments on an idle event stream: proxies close a silent connection after 15 or more."""

HEADERS: Final = ((b"content-type", EVENT_STREAM), (b"x-accel-buffering", b"no"))
"""Of every event stream: a proxy is to pass each event on at once."""

_KEEP_ALIVE: Final = b":\n\n"


class Events:
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


async def stream_events(produce: Callable[[Events], Awaitable[None]], post: Post, receive: Receive, send: Send) -> None:
    """Send what `produce` writes, until it returns; until the client leaves, is too slow or loses its right; or the
    server stops.
    """
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
    events = Events(send)
    tasks = [
        asyncio.ensure_future(work)
        for work in (
            produce(events),
            events.stay_alive(),
            events.too_slow.wait(),
            _left(receive),
            post.state["stopping"].wait(),
            *(() if post.visit.is_open else (post.visit.ended(),)),
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


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
