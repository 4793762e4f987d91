"""The ASGI way to an endpoint: reads the request whole, and sends the answer."""

from http import HTTPStatus
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

from nexus_graph.api.http.answer import Answer, AnsweredInTurn, Header
from nexus_graph.api.http.body import read_json_body
from nexus_graph.api.http.request import OTHER_SITES, Post, header
from nexus_graph.config import Settings
from nexus_graph.errors import NexusError

_SEC_FETCH_SITE: Final = b"sec-fetch-site"


class Endpoint(Protocol):
    """Answers the requests of a path, from either carrier. Every HTTP endpoint has this shape."""

    async def answer(self, post: Post) -> Answer:
        """The whole answer to a whole request.

        An error becomes an answer by the one table. AnsweredInTurn: the request has several answers.
        """


class Carrier:
    """An endpoint as an ASGI application, inside of `Envelope`."""

    def __init__(self, endpoint: Endpoint, settings: Settings, *, type_optional: bool = False) -> None:
        """`type_optional`: a body without a Content-Type counts as JSON, for old clients."""
        self._endpoint = endpoint
        self._body_max_bytes = settings.body_max_bytes
        self._type_optional = type_optional

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Raises what the endpoint raises, and ClientGone."""
        try:
            answer = await self._endpoint.answer(await self._post(scope, receive))
        except AnsweredInTurn as several:
            await several.answers(receive, send)
        else:
            await respond(send, answer)

    async def _post(self, scope: Scope, receive: Receive) -> Post:
        body, fault = b"", None
        if scope["method"] == "POST":
            try:
                body = await self._body(scope, receive)
            except NexusError as error:
                fault = error
        return Post(
            body,
            scope["header"],
            scope["request_id"],
            scope["state"],
            fault,
            scope["method"],
            scope["query_string"],
            scope.get("path_params", {}),
        )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        # A page of another site that sends no type could write without a preflight.
        type_required = not self._type_optional or header(scope, _SEC_FETCH_SITE) in OTHER_SITES
        return await read_json_body(scope, receive, limit_bytes=self._body_max_bytes, type_required=type_required)


async def respond(send: Send, answer: Answer) -> None:
    """Send a whole answer."""
    headers: list[Header] = [*answer.headers]
    if answer.status != HTTPStatus.NOT_MODIFIED:
        headers[:0] = (b"content-type", answer.content_type), (b"content-length", b"%d" % len(answer.body))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
