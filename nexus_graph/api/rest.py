"""POST /identify: the legacy contract, through the same verb as GraphQL. The hot path: answered directly (`direct`)."""

from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from nexus_graph.api.body import decode_object, read_json_body
from nexus_graph.api.middleware import Post
from nexus_graph.api.responses import Answer, Header, encode, respond
from nexus_graph.config import Settings
from nexus_graph.identity.identify import Identify
from nexus_graph.identity.model import Family, Outcome
from nexus_graph.identity.normalize import Dropped, Written, identify_request


class _Question(msgspec.Struct):
    """Members are judged by `normalize`; those it does not know are ignored, as they always were."""

    email: Any = None
    phoneNumber: Any = None  # noqa: N815 - the contract's name


class _Contact(msgspec.Struct):
    primaryContatctId: int  # noqa: N815 - misspelt in the contract, and kept for those who rely on it
    primaryContactId: int  # noqa: N815
    emails: tuple[str, ...]
    phoneNumbers: tuple[str, ...]  # noqa: N815
    secondaryContactIds: list[int]  # noqa: N815


class _Answer(msgspec.Struct):
    contact: _Contact


_OUTCOMES: Final[dict[Outcome, tuple[Header, ...]]] = {
    outcome: ((b"nexus-outcome", outcome.value.encode()),) for outcome in Outcome
}

_decode = msgspec.json.Decoder(_Question, float_hook=Written).decode


class IdentifyRoute:
    """The endpoint, direct and by ASGI. Errors pass to whoever called, who answers them from the one table."""

    def __init__(self, settings: Settings) -> None:
        self._body_max_bytes = settings.body_max_bytes
        self._json_depth_max = settings.json_depth_max
        self._region = settings.phone_region

    async def answer(self, post: Post) -> Answer:
        """The answer to a body of JSON. Raises NexusError."""
        asked = decode_object(post.body, _decode, _Question, depth_max=self._json_depth_max)
        request = identify_request(
            asked.email,
            asked.phoneNumber,
            region=self._region,
            request_id=post.identified.uuid,
            brief=True,  # the contract tells neither versions nor dates
        )
        identify: Identify = post.state["identity"].identify
        found = await identify(request)
        # Callers of one batch who name one family are given the same.
        headers = _OUTCOMES[found.outcome]
        if request.dropped:
            headers = (*headers, (b"nexus-ignored", _ignored(request.dropped)))
        return Answer(200, found.family.told(_encoded, found.family), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_json_body(scope, receive, limit_bytes=self._body_max_bytes, type_required=False)
        await respond(send, *await self.answer(Post.by_asgi(scope, body)))


def _ignored(dropped: Dropped) -> bytes:
    """What was left away of the body's members, as a list of RFC 9651."""
    return ", ".join(f"{member};dropped={part}" for member, part in dropped).encode()


def _encoded(family: Family) -> bytes:
    ids = [contact.id for contact in family.contacts]
    return encode(_Answer(_Contact(ids[0], ids[0], family.emails, family.phones, ids[1:])))
