"""The catalogue of the demonstration: pages without gaps, search that forgives typing errors, indexes that are used."""

import json
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from nexus_graph.config import Settings
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool
from tests.stage.running import running_api

VERSIONS = ("/v1", "/v1.1", "/v2")


async def names(api: httpx2.AsyncClient, asked: str) -> list[str]:
    found = await api.get("/v2/products/search", params={"q": asked, "limit": 5})
    assert found.status_code == 200, found.text
    return [product["name"] for product in found.json()["products"]]


@pytest.mark.parametrize("version", VERSIONS)
async def test_pages_hold_every_product_once(api: httpx2.AsyncClient, version: str) -> None:
    seen: list[int] = []
    total = 1
    while len(seen) < total:
        page = (await api.get(f"{version}/products", params={"limit": 7, "offset": len(seen)})).json()
        total = page["total"]
        assert (page["limit"], page["offset"]) == (7, len(seen))
        assert 0 < len(page["products"]) <= 7
        seen += [product["id"] for product in page["products"]]
    assert seen == sorted(set(seen))
    assert total >= 50
    for product_id in (seen[0], seen[-1]):
        assert (await api.get(f"{version}/products/{product_id}")).json()["id"] == product_id


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("keyboard", "Keyboard"),
        ("KEYBOARDS", "Keyboard"),
        ("keybord", "Keyboard"),
        ("keyborad", "Keyboard"),
        ("lapotp", "Laptop"),
        ("labtop", "Laptop"),
        ("hedphones", "Headphones"),
        ("moniter", "Monitor"),
        ("wireless keyboard", "Quiet Keyboard"),
        ("two cameras", "Phone 6"),
        ("cofee grindr", "Burr Coffee Grinder"),
    ],
)
async def test_search_forgives_typing_errors(api: httpx2.AsyncClient, asked: str, first: str) -> None:
    found = await names(api, asked)
    assert found, asked
    assert first in found[0]


@pytest.mark.parametrize("asked", ["zeppelin", "qqqq", "the", "&|!():*", "'; DROP TABLE products; --", "%", "\\", "💡"])
async def test_what_nothing_matches_finds_nothing(api: httpx2.AsyncClient, asked: str) -> None:
    assert await names(api, asked) == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "q=",
        "q=%20",
        "q=" + "a" * 101,
        "q=a%00b",
        "q=%FF",
        "q=%ED%A0%80",
        "q=a&q=b",
        "q=a&limit=0",
        "q=a&limit=101",
        "q=a&limit=1.5",
        "q=a&limit=",
        "q=a&limit=" + quote("٣"),
        "q=a&limit=99999999999999999999",
        "q=a&more=1",
        "q=a&" + "x" * 3_000,
    ],
)
async def test_what_cannot_be_asked_is_refused(api: httpx2.AsyncClient, query: str) -> None:
    refused = await api.get(f"/v2/products/search?{query}")
    assert refused.status_code == 400, refused.text
    assert refused.json()["code"] in ("BAD_USER_INPUT", "BAD_REQUEST", "PAGE_TOO_LARGE")
    assert refused.headers["content-type"] == "application/problem+json"


async def test_an_offset_past_all_numbers_is_refused(api: httpx2.AsyncClient) -> None:
    for offset, status in (("2147483647", 200), ("2147483648", 400), ("-1", 400), ("1e3", 400), ("", 400)):
        assert (await api.get("/v2/products", params={"offset": offset})).status_code == status, offset


@pytest.mark.parametrize(
    "product_id", ["0", "-1", "999999999", "9999999999", "99999999999999999999", "laptop", "1.0", "\u0661"]
)
async def test_an_absent_product_is_not_found(api: httpx2.AsyncClient, product_id: str) -> None:
    absent = await api.get(f"/v2/products/{product_id}")
    assert (absent.status_code, absent.json()["code"], absent.json()["detail"]) == (404, "NOT_FOUND", "no such product")


async def test_the_largest_page_is_the_operators(settings: Settings) -> None:
    async with (
        running_api(settings.model_copy(update={"page_max": 3})) as server,
        httpx2.AsyncClient(base_url=server.url) as client,
    ):
        assert len((await client.get("/v1/products?limit=3")).json()["products"]) == 3
        assert (await client.get("/v1/products?limit=4")).json()["code"] == "PAGE_TOO_LARGE"
        assert len((await client.get("/v1/products")).json()["products"]) == 3


async def test_search_uses_its_indexes(pool: Pool) -> None:
    """Of the function, its own statement."""
    body = await pool.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'search_products'")
    asked = body.replace("wanted", "'keybord'").replace("LIMIT most", "LIMIT 20")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO products (name, category, description, price_cents) "
            "SELECT 'thing ' || md5(n::text), 'Things', 'of many', n FROM generate_series(1, 20000) AS n"
        )
        await connection.execute("ANALYZE products")
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {asked}"))[0]["Plan"]
        paged = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql('products_page')}", 20, 40))[0][
            "Plan"
        ]
    assert _indexes(plan) == {"products_words", "products_name_similar"}
    assert _indexes(paged) == {"products_pkey"}


def _indexes(plan: dict[str, Any]) -> set[str]:
    found = {plan["Index Name"]} if "Index Name" in plan else set()
    return found.union(*(_indexes(child) for child in plan.get("Plans", [])))
