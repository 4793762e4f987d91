"""Answers as server-sent events: one connection an operation, by the graphql-sse protocol."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from nexus_graph import telemetry
from nexus_graph.api.graphql.answering import Answering, Asked
from nexus_graph.api.graphql.documents import RequestError
from nexus_graph.api.middleware import request_id
from nexus_graph.api.responses import EVENT_STREAM, encode
from nexus_graph.config import Settings

_COMPLETE: Final = b"event: complete\ndata:\n\n"
_KEEP_ALIVE: Final = b":\n\n"
_LOG = telemetry.log("event_stream")


async def stream(
    answering: Answering, asked: Asked, settings: Settings, *, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer until there is no more, the client leaves or is too slow, or the server stops."""
    headers = [(b"content-type", EVENT_STREAM), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    writing = asyncio.create_task(_write(answering, asked, scope, send, settings))
    others = [asyncio.create_task(_left(receive)), asyncio.create_task(scope["state"]["stopping"].wait())]
    with telemetry.SUBSCRIPTIONS.labels("sse").track_inprogress():
        try:
            await asyncio.wait({writing, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, *others):
                task.cancel()
            await asyncio.gather(writing, *others, return_exceptions=True)


async def _write(answering: Answering, asked: Asked, scope: Scope, send: Send, settings: Settings) -> None:
    answers = answering.answers(asked, scope["state"], request_id(scope))
    try:
        async with aclosing(_events(answers, settings.stream_keep_alive_seconds)) as events:
            async for event in events:
                async with asyncio.timeout(settings.socket_send_seconds):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
    except TimeoutError:
        telemetry.SUBSCRIBERS_CUT.labels("sse").inc()
        _LOG.warning("subscriber_too_slow")
        return
    await send({"type": "http.response.body", "body": _COMPLETE, "more_body": False})


async def _events(
    answers: AsyncGenerator[dict[str, Any], None], keep_alive_seconds: float
) -> AsyncGenerator[bytes, None]:
    """Each answer as an event, and a sign of life where there is none for a while."""
    next_one: asyncio.Task[dict[str, Any]] | None = None
    try:
        while True:
            next_one = next_one or asyncio.ensure_future(anext(answers))
            done, _ = await asyncio.wait({next_one}, timeout=keep_alive_seconds)
            if not done:
                yield _KEEP_ALIVE
                continue
            found, next_one = next_one, None
            try:
                yield _event(found.result())
            except StopAsyncIteration:
                return
            except RequestError as error:
                yield _event({"errors": error.errors})
                return
    finally:
        if next_one is not None:
            next_one.cancel()
            with suppress(BaseException):
                await next_one
        await answers.aclose()


def _event(answer: dict[str, Any]) -> bytes:
    telemetry.SUBSCRIPTION_ANSWERS.labels("sse").inc()
    return b"event: next\ndata: %b\n\n" % encode(answer)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
