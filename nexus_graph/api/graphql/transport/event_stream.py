"""Answers as server-sent events: one connection an operation, by the graphql-sse protocol."""

from contextlib import aclosing
from functools import partial
from typing import Any, Final

from starlette.types import Receive, Send

from nexus_graph import telemetry
from nexus_graph.api.graphql.engine import Answering, PreparedOperation, RequestError, error_of
from nexus_graph.api.http.answer import encode
from nexus_graph.api.http.event_stream import Events, stream_events
from nexus_graph.api.http.request import Post
from nexus_graph.errors import NexusError

_COMPLETE: Final = b"event: complete\ndata:\n\n"
_ANSWERS: Final = telemetry.SUBSCRIPTION_ANSWERS.labels("sse")


async def stream(answering: Answering, prepared: PreparedOperation, post: Post, receive: Receive, send: Send) -> None:
    """Send answers until the last one, or until the stream ends for another reason (`stream_events`)."""
    await stream_events(partial(_answer, answering, prepared, post), post, receive, send)


async def _answer(answering: Answering, prepared: PreparedOperation, post: Post, events: Events) -> None:
    try:
        async with aclosing(answering.answers(prepared, post.state, post.request_id, post.visit)) as answers:
            async for answer in answers:
                await _write_answer(events, answer)
    except RequestError as error:
        await _write_answer(events, {"errors": error.errors})
    except NexusError as error:
        await _write_answer(events, {"errors": [error_of(error, post.request_id.text)]})
    await events.write(_COMPLETE, last=True)


async def _write_answer(events: Events, answer: dict[str, Any]) -> None:
    await events.write(b"event: next\ndata: %b\n\n" % encode(answer))
    _ANSWERS.inc()
