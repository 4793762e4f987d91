"""GET /v2/families, /v2/families/{contactId}, /v2/contacts/{id}: a client may keep the answers and revalidate them."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from nexus_graph.api import cursors
from nexus_graph.api.http.answer import Answer, Header, encode, has_tag
from nexus_graph.api.http.request import Post
from nexus_graph.api.rest.asked import query_of, whole_number
from nexus_graph.api.rest.shapes import AtLeast, FamilyQuery, contact_of, encoded_family
from nexus_graph.config import Settings
from nexus_graph.door.visited import visited
from nexus_graph.errors import InvalidArgument, InvalidIdentifier, NotFound
from nexus_graph.identifiers import normalize
from nexus_graph.model import Family, FamilyKey, Precedence

_KEYS: Final = ("email", "phoneNumber", "contactId")
_AT_LEAST: Final = "atLeast"
_OF_ONE_CALLER: Final[tuple[Header, ...]] = (
    (b"cache-control", b"private, no-cache"),
    (b"vary", b"authorization, x-api-key"),
)
"""The caller's own cache may keep the answer, and asks each time whether it still holds."""


class FamilyRoutes:
    """The endpoints."""

    def __init__(self, settings: Settings) -> None:
        self._region = settings.phone_region

    async def found(self, post: Post) -> Answer:
        """The family of an email, a phone or a contact. Raises NexusError; NotFound also for one out of sight."""
        given = query_of(post, FamilyQuery)
        named = [name for name in _KEYS if name in given]
        if len(named) != 1:
            raise InvalidArgument(f"exactly one of {', '.join(_KEYS)} is required", field=(named or _KEYS)[-1])
        return await self._family(post, self._key(named[0], given[named[0]]), given.get(_AT_LEAST))

    async def family(self, post: Post) -> Answer:
        """The family of a contact."""
        given = query_of(post, AtLeast)
        contact_id = cursors.contact_id(post.parameters["contactId"], field="contactId")
        return await self._family(post, FamilyKey("contact", contact_id), given.get(_AT_LEAST))

    async def contact(self, post: Post) -> Answer:
        """A contact."""
        given = query_of(post, AtLeast)
        contact_id = cursors.contact_id(post.parameters["id"], field="id")
        family = await _read(post, FamilyKey("contact", contact_id), given.get(_AT_LEAST))
        contact = None if family is None else next((one for one in family.contacts if one.id == contact_id), None)
        if family is None or contact is None:
            raise NotFound("no such contact")
        precedence = Precedence.PRIMARY if contact is family.primary else Precedence.SECONDARY
        return _answer(post, family, lambda: encode(contact_of(contact, precedence)))

    async def _family(self, post: Post, key: FamilyKey, at_least: str | None) -> Answer:
        family = await _read(post, key, at_least)
        if family is None:
            raise NotFound("no such family")
        return _answer(post, family, lambda: encoded_family(family))

    def _key(self, name: str, text: str) -> FamilyKey:
        if name == "contactId":
            return FamilyKey("contact", cursors.contact_id(text, field=name))
        value = normalize.email(text) if name == "email" else normalize.phone(text, self._region)
        if value is None:
            raise InvalidIdentifier(f"{name} must not be blank", field=name)
        return FamilyKey("email" if name == "email" else "phone", value)


async def _read(post: Post, key: FamilyKey, at_least: str | None) -> Family | None:
    families = visited(post.state["identity"], post.visit).families
    return await families.family(key, at_least=whole_number(at_least, _AT_LEAST))


def _answer(post: Post, family: Family, encoded: Callable[[], bytes]) -> Answer:
    """The body that `encoded` makes; 304 for a client that has this version of the family, as its caller sees it."""
    # No two families have an event, and so a version, in common. The tag is weak: any encoding of the answer bears it.
    tag = b'W/"%d-%b"' % (family.version, b"masked" if post.visit.sees_masked else b"full")
    headers = ((b"etag", tag), *_OF_ONE_CALLER)
    if has_tag(post, tag):
        return Answer(HTTPStatus.NOT_MODIFIED, b"", headers=headers)
    return Answer(HTTPStatus.OK, encoded(), headers=headers)
