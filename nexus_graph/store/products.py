"""The products of the demonstration: a catalogue in the record, to page through and to search."""

import msgspec

from nexus_graph.statements import sql
from nexus_graph.store.record import Record


class Product(msgspec.Struct, frozen=True, rename="camel"):
    """A product, as the record holds it and REST shows it."""

    id: int
    name: str
    description: str
    category: str
    price_cents: int
    """In hundredths of the currency."""
    currency: str
    """By ISO 4217: `USD`."""


async def page(record: Record, *, limit: int, offset: int) -> tuple[list[Product], int]:
    """Products by id, and the number of all. Raises Unavailable."""
    rows = await record.fetch(sql("products_page"), limit, offset)
    ((total,),) = await record.fetch(sql("products_count"))
    return [Product(*row) for row in rows], total


async def by_id(record: Record, product_id: int) -> Product | None:
    """The product with this id. Raises Unavailable."""
    rows = await record.fetch(sql("products_by_id"), product_id)
    return Product(*rows[0]) if rows else None


async def search(record: Record, text: str, *, limit: int) -> list[Product]:
    """Products that match the text, the best first; typing errors are forgiven. `text` holds no NUL.

    Raises Unavailable.
    """
    return [Product(*row) for row in await record.fetch(sql("products_search"), text, limit)]
