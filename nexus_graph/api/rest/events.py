"""GET /v2/events, page by page, and GET /v2/events/stream, as they are committed: each event once, in order, none
missing.
"""

from contextlib import aclosing
from functools import partial
from http import HTTPStatus
from typing import Final

from starlette.types import Receive, Send

from nexus_graph import telemetry
from nexus_graph.api.http.answer import EVENT_STREAM, Answer, StreamingAnswer, encode, masked, problem
from nexus_graph.api.http.event_stream import HEADERS, Events, stream_events
from nexus_graph.api.http.followers import Places
from nexus_graph.api.http.request import Post
from nexus_graph.api.rest.asked import page_size, query_of, whole_number
from nexus_graph.api.rest.shapes import EventPage, EventsQuery, StreamQuery, event_of
from nexus_graph.config import Settings
from nexus_graph.door.visited import visited
from nexus_graph.errors import VersionUnknown
from nexus_graph.model import IdentityEvent

_LAST_EVENT_ID: Final = "Last-Event-ID"
_BEGIN: Final = b": the id of each event is its sequence\nid: %d\n\n"
"""Without data this is no event: it tells the client where it begins, should the connection end before the first."""
_SENT: Final = telemetry.SUBSCRIPTION_ANSWERS.labels("sse")


class EventRoutes:
    """The endpoints. `places` bounds how many clients follow at once."""

    def __init__(self, settings: Settings, places: Places) -> None:
        self._settings = settings
        self._places = places

    async def page(self, post: Post) -> Answer:
        """The next events past `after`. Raises NexusError."""
        given = query_of(post, EventsQuery)
        after = whole_number(given.get("after") or "0", "after") or 0
        size = page_size(given.get("limit"), self._settings)
        listing = visited(post.state["identity"], post.visit).listing
        found = await listing.events(None, after=after, limit=size)
        page = EventPage([event_of(event) for event in found], found[-1].sequence if found else after)
        return Answer(HTTPStatus.OK, encode(page))

    async def stream(self, post: Post) -> Answer:
        """Every event past the client's last one, without an end. Raises StreamingAnswer, NexusError; VersionUnknown if
        the client saw an event that the record has not: of another deployment, or of before a restore.
        """
        given = query_of(post, StreamQuery)
        last_seen = post.headers.get(b"last-event-id", b"").decode("latin-1").strip()
        field, text = (_LAST_EVENT_ID, last_seen) if last_seen else ("after", given.get("after"))
        after = whole_number(text or None, field)
        if after is not None:
            await _require(post, after, field)
        if post.method == "HEAD":
            return Answer(HTTPStatus.OK, b"", EVENT_STREAM, HEADERS[1:])
        self._places.require()
        raise StreamingAnswer(partial(self._stream, after, post))

    async def _stream(self, after: int | None, post: Post, receive: Receive, send: Send) -> None:
        with self._places.taken():
            await stream_events(partial(_follow, after, post), post, receive, send)


async def _require(post: Post, after: int, field: str) -> None:
    try:
        await visited(post.state["identity"], post.visit).families.reach(after)
    except VersionUnknown as error:
        raise VersionUnknown(error.message, field=field, newest=error.newest) from None


async def _follow(after: int | None, post: Post, events: Events) -> None:
    """Write events until an error ends them: then the problem, and when to come back, if that helps."""
    identity = post.state["identity"]
    try:
        place = await identity.listing.newest_event() if after is None else after
        await events.write(_BEGIN % place)
        async with aclosing(visited(identity, post.visit).feed.events(place)) as batches:
            async for batch in batches:
                await events.write(b"".join(map(_written, batch)))
                _SENT.inc(len(batch))
    except Exception as error:  # noqa: BLE001 - the client is told, and not of what is masked
        shown = masked(error)
        seconds = shown.retry_after_seconds
        retry = b"" if seconds is None else b"retry: %d\n" % (1_000 * seconds)
        told = problem(shown, post.request_id.text)
        await events.write(b"%bevent: problem\ndata: %b\n\n" % (retry, told), last=True)


def _written(event: IdentityEvent) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (event.sequence, encode(event_of(event)))
