"""GET /products: the demonstration's catalogue, a page at a time, by id and by search."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from nexus_graph.api.graphql.schema import PAGE_DEFAULT
from nexus_graph.api.http.answer import Answer, encode
from nexus_graph.api.http.request import Post
from nexus_graph.config import INTEGER_MAX, Settings
from nexus_graph.errors import InvalidArgument, InvalidRequest, NotFound, PageTooLarge
from nexus_graph.store import products
from nexus_graph.store.products import Product
from nexus_graph.store.record import Record

TEXT_MAX_CHARS: Final = 100
"""The longest text to search for."""

QUERY_MAX_BYTES: Final = 2_048
"""The longest query of a URL here: it holds a text, escaped, and a number."""

_is_number = re.compile(r"[0-9]{1,10}").fullmatch

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
        self._page_max = settings.page_max

    async def page(self, post: Post) -> Answer:
        """A page; an empty one past the end. Raises InvalidRequest, InvalidArgument, Unavailable."""
        given = _query(post, ProductsQuery)
        limit, offset = self._limit(given), _number(given, "offset", default=0)
        found, total = await products.page(_record(post), limit=limit, offset=offset)
        return Answer(HTTPStatus.OK, encode(ProductPage(found, total, limit, offset)))

    async def product(self, post: Post) -> Answer:
        """One product. Raises NotFound, Unavailable."""
        product_id = post.parameters["productId"]
        found = None
        if _is_number(product_id) and int(product_id) <= INTEGER_MAX:
            found = await products.by_id(_record(post), int(product_id))
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

    def _limit(self, given: Mapping[str, str]) -> int:
        limit = _number(given, "limit", default=min(PAGE_DEFAULT, self._page_max))
        if limit == 0:
            raise InvalidArgument("limit must be at least 1", field="limit")
        if limit > self._page_max:
            raise PageTooLarge(f"limit must be at most {self._page_max}", field="limit")
        return limit


def _record(post: Post) -> Record:
    record: Record = post.state["identity"].record
    return record


def _query(post: Post, shape: type[msgspec.Struct]) -> dict[str, str]:
    """The URL's parameters as text, each known and given once. Raises InvalidRequest."""
    if len(post.query) > QUERY_MAX_BYTES:
        raise InvalidRequest(f"the URL's query is too long: at most {QUERY_MAX_BYTES} bytes")
    try:
        pairs = parse_qsl(post.query.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise InvalidRequest("the URL's query is not valid UTF-8") from None
    found, known = dict(pairs), shape.__struct_fields__
    if not found.keys() <= set(known):
        raise InvalidRequest(f"the URL has a parameter that this path does not know; it knows {', '.join(known)}")
    if len(found) < len(pairs):
        raise InvalidRequest("the URL names a parameter twice")
    return found


def _number(given: Mapping[str, str], name: str, *, default: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not _is_number(text) or int(text) > INTEGER_MAX:
        raise InvalidArgument(f"{name} must be a whole number from 0 to {INTEGER_MAX}", field=name)
    return int(text)
