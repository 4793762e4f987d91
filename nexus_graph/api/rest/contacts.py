"""GET /v2/contacts: contacts by what an identifier begins with, or by time, page by page."""

from http import HTTPStatus

from nexus_graph.api import cursors
from nexus_graph.api.http.answer import Answer, encode
from nexus_graph.api.http.request import Post
from nexus_graph.api.rest.asked import page_size, query_of
from nexus_graph.api.rest.shapes import ContactPage, ContactsQuery, contact_of
from nexus_graph.config import Settings
from nexus_graph.door.visited import visited
from nexus_graph.errors import InvalidArgument
from nexus_graph.identifiers import normalize
from nexus_graph.model import ContactFilter


class ContactsRoute:
    """The endpoint."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def answer(self, post: Post) -> Answer:
        """A page. Raises NexusError: Forbidden if identifiers are looked for by a caller who may not see them."""
        given = query_of(post, ContactsQuery)
        size = page_size(given.get("limit"), self._settings)
        wanted = _wanted(given.get("emailPrefix"), given.get("phonePrefix"))
        place = None
        if after := given.get("after"):
            place = cursors.place(after, by_time=wanted.order == "time")
        listing = visited(post.state["identity"], post.visit).listing
        found = await listing.contacts(wanted, after=place, limit=size + 1)
        next_page = cursors.encode_place(wanted.place_of(found[size - 1].contact)) if len(found) > size else None
        page = ContactPage([contact_of(one.contact, one.precedence) for one in found[:size]], next_page)
        return Answer(HTTPStatus.OK, encode(page))


def _wanted(email_prefix: str | None, phone_prefix: str | None) -> ContactFilter:
    if email_prefix is not None and phone_prefix is not None:
        raise InvalidArgument("emailPrefix and phonePrefix cannot be combined", field="phonePrefix")
    return ContactFilter(
        None if email_prefix is None else normalize.email_prefix(email_prefix),
        None if phone_prefix is None else normalize.phone_prefix(phone_prefix),
    )
