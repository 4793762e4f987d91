"""GET /products: the demonstration's catalogue, a page at a time, by id and by search."""

from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from nexus_graph.api.graphql.schema import PAGE_DEFAULT
from nexus_graph.api.http.answer import Answer, encode
from nexus_graph.api.http.request import Post
from nexus_graph.api.rest.asked import number_of, page_size, query_of, whole_number
from nexus_graph.config import INTEGER_MAX, Settings
from nexus_graph.errors import InvalidArgument, NotFound
from nexus_graph.store import products
from nexus_graph.store.products import Product
from nexus_graph.store.record import Record

TEXT_MAX_CHARS: Final = 100
"""The longest text to search for."""

QUERY_MAX_BYTES: Final = 2_048
"""The longest query of a URL here: it holds a text, escaped, and a number."""

Limit = Annotated[int, Meta(ge=1, description="Products of a page at most: no more than NEXUS_PAGE_MAX.")]


class ProductsQuery(msgspec.Struct):
    """Which page."""

    limit: Limit = PAGE_DEFAULT
    offset: Annotated[int, Meta(ge=0, le=INTEGER_MAX, description="Products to leave out from the beginning.")] = 0


class SearchQuery(msgspec.Struct):
    """What to search for."""

    q: Annotated[
        str, Meta(min_length=1, max_length=TEXT_MAX_CHARS, description="Words, in any form, or a name with a typo.")
    ]
    limit: Limit = PAGE_DEFAULT


class ProductPage(msgspec.Struct):
    """A page of products, by id."""

    products: list[Product]
    total: int
    """Of all pages."""
    limit: int
    offset: int


class FoundProducts(msgspec.Struct):
    """Products that match, the best first."""

    products: list[Product]


class ProductsRoute:
    """The endpoints."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def page(self, post: Post) -> Answer:
        """A page; an empty one past the end. Raises InvalidRequest, InvalidArgument, Unavailable."""
        given = _query(post, ProductsQuery)
        limit = self._limit(given)
        offset = whole_number(given.get("offset"), "offset", most=INTEGER_MAX) or 0
        found, total = await products.page(_record(post), limit=limit, offset=offset)
        return Answer(HTTPStatus.OK, encode(ProductPage(found, total, limit, offset)))

    async def product(self, post: Post) -> Answer:
        """One product. Raises NotFound, Unavailable."""
        product_id = number_of(post.parameters["productId"], INTEGER_MAX)
        found = None if product_id is None else await products.by_id(_record(post), product_id)
        if found is None:
            raise NotFound("no such product")
        return Answer(HTTPStatus.OK, encode(found))

    async def search(self, post: Post) -> Answer:
        """Products that match, none if nothing does. Raises InvalidRequest, InvalidArgument, Unavailable."""
        given = _query(post, SearchQuery)
        text = " ".join(given.get("q", "").split())
        if not 0 < len(text) <= TEXT_MAX_CHARS or not text.isprintable():
            raise InvalidArgument(f"q must be text of 1 to {TEXT_MAX_CHARS} characters", field="q")
        found = await products.search(_record(post), text, limit=self._limit(given))
        return Answer(HTTPStatus.OK, encode(FoundProducts(found)))

    def _limit(self, given: dict[str, str]) -> int:
        return page_size(given.get("limit"), self._settings, most=INTEGER_MAX)


def _record(post: Post) -> Record:
    record: Record = post.state["identity"].record
    return record


def _query(post: Post, shape: type[msgspec.Struct]) -> dict[str, str]:
    return query_of(post, shape, max_bytes=QUERY_MAX_BYTES, has_phones=False)
