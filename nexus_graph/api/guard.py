"""Endpoints behind the door: who calls is known, and may call here, before the endpoint sees the request."""

from http import HTTPStatus
from typing import Final, NamedTuple

from nexus_graph.api.http.answer import Answer, StreamingAnswer
from nexus_graph.api.http.asgi import Endpoint
from nexus_graph.api.http.request import Post
from nexus_graph.door.audit import Outcome, What
from nexus_graph.door.door import Door
from nexus_graph.door.permissions import Permission
from nexus_graph.door.visit import Visit
from nexus_graph.errors import NexusError, NotFound


class Right(NamedTuple):
    """What a route asks of its caller."""

    permission: Permission | None
    """None: any valid credential will do, or the endpoint itself asks for more."""
    what: What
    is_open: bool = False
    """Served without credentials too."""
    is_audited: bool = False
    """The guard notes every answer. Otherwise the endpoint notes what it reads or changes; if a call is refused or
    fails and the endpoint noted nothing, the guard notes it, unless the route is open."""


RIGHTS: Final[dict[str, Right]] = {
    "/identify": Right(Permission.IDENTIFY, What.IDENTIFY),
    "/identify/batch": Right(Permission.IDENTIFY, What.IDENTIFY),
    "/families": Right(Permission.FAMILY_BY_IDENTIFIER, What.FAMILY_BY_IDENTIFIER),
    "/families/{contactId}": Right(Permission.READ, What.FAMILY),
    "/contacts": Right(Permission.READ_ALL, What.LIST),
    "/contacts/{id}": Right(Permission.READ, What.CONTACT),
    "/events": Right(Permission.READ_ALL, What.EVENTS),
    "/events/stream": Right(Permission.READ_ALL, What.SUBSCRIBE),
    "/graphql": Right(None, What.QUERY),  # its fields have their own: api/graphql/schema/rights.py
    "/graphql/assets/{name}": Right(None, What.OTHER),
    "/neo4j/{name}": Right(None, What.OTHER),
    "/": Right(None, What.OTHER),
    "/metrics": Right(Permission.OPERATE, What.METRICS, is_audited=True),
    "/health": Right(None, What.HEALTH, is_open=True),  # in detail for those with OPERATE
    "/products": Right(None, What.OTHER),
    "/products/search": Right(None, What.OTHER),
    "/products/{productId}": Right(None, What.OTHER),
    "/livez": Right(None, What.HEALTH, is_open=True),
    "/readyz": Right(None, What.HEALTH, is_open=True),
}
"""By the route's path, a path of REST without its version. A route without a right stops the start."""

NOWHERE: Final = Right(None, What.OTHER)
"""Of paths that no route has: with credentials 404, without 401 as everywhere."""


def guarded(endpoint: Endpoint, right: Right, *, passes_faults: bool = False) -> Endpoint:
    """The endpoint behind the door. With `passes_faults` the endpoint itself answers a caller who is turned away, as it
    answers one whose body cannot be read: `Post.fault`.
    """

    async def answer(post: Post) -> Answer:
        door: Door = post.state["door"]
        try:
            visit = await _visit(door, post, right) if post.visit.is_open else post.visit  # or a stream begins again
        except NexusError as error:
            if not passes_faults:
                raise
            return await endpoint(post._replace(fault=error))
        try:
            found = await endpoint(post.by(visit))
        except StreamingAnswer as several:
            several.visit = visit
            raise
        except Exception as error:
            if not (visit.has_noted or right.is_open):
                visit.note_failure(right.what, error)
            raise
        if found.status >= HTTPStatus.BAD_REQUEST:
            if not (visit.has_noted or right.is_open):
                visit.note(right.what, _outcome_of(found.status))
        elif right.is_audited:
            visit.note(right.what, Outcome.ANSWERED)
        standing = visit.standing
        return found if standing is None else found.with_headers(standing.headers())

    return answer


def _outcome_of(status: int) -> Outcome:
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.REFUSED
    return Outcome.UNAVAILABLE if status == HTTPStatus.SERVICE_UNAVAILABLE else Outcome.FAILED


async def nowhere(_post: Post) -> Answer:
    """The endpoint of paths that no route has."""
    raise NotFound("no such path")


async def _visit(door: Door, post: Post, right: Right) -> Visit:
    visit = door.enter_at_once(post.headers, post.request_id.uuid)
    if visit is None:
        if right.is_open and b"authorization" not in post.headers and b"x-api-key" not in post.headers:
            return door.stranger
        visit = await door.enter(post.headers, post.peer, post.request_id.uuid)
    if right.permission is not None:
        visit.require(right.permission, right.what)
    return visit
