"""The page at /graphql in a real browser: it works with nothing but our own server.

NEXUS_SCREENSHOT=docs/images/graphiql.png keeps a picture of it.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.stage.running import ApiServer


@pytest.fixture
async def faults(context: BrowserContext, server: ApiServer) -> AsyncIterator[list[str]]:
    """What went wrong in the page: there must be nothing at the end."""
    faults: list[str] = []
    context.on("weberror", lambda error: faults.append(f"uncaught: {error.error}"))
    context.on("console", lambda told: faults.append(f"console: {told.text}") if told.type == "error" else None)
    context.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    context.on("request", lambda request: None if _is_own(request.url, server) else faults.append(request.url))
    yield faults
    assert not faults


@pytest.fixture
async def page(context: BrowserContext, faults: list[str]) -> Page:
    """GraphiQL, opened."""
    page = await context.new_page()
    await page.goto("/graphql")
    await expect(page.get_by_text("nexus_graph", exact=True)).to_be_visible()
    return page


async def test_identify_runs_and_every_other_example_after_it(page: Page) -> None:
    answer = page.locator(".result-window")
    await _run(page)
    await expect(answer).to_contain_text(re.compile(r'"outcome":\s"CREATED"'))
    for name in ("Family", "OwnWrite", "Contacts", "Events"):
        await _open(page, name)
        await _run(page)
        await expect(answer).to_contain_text('"data"')
        await expect(answer).not_to_contain_text('"errors"')
    if picture := os.environ.get("NEXUS_SCREENSHOT"):
        await _photograph(page, picture)


async def test_a_family_is_followed(page: Page) -> None:
    await page.request.post("/identify", data={"email": "lorraine@hillvalley.edu", "phoneNumber": "123456"})
    await _open(page, "Changes")
    await page.get_by_role("button", name=re.compile("^Execute query")).click()
    answer = page.locator(".result-window")
    await expect(answer).to_contain_text("lorraine@hillvalley.edu")
    await page.request.post("/identify", data={"email": "mcfly@hillvalley.edu", "phoneNumber": "123456"})
    await expect(answer).to_contain_text("mcfly@hillvalley.edu")


async def test_the_docs_tell_of_the_schema(page: Page) -> None:
    await page.get_by_label("Show Documentation Explorer").click()
    await page.locator(".graphiql-doc-explorer").get_by_text("Query", exact=True).click()
    await expect(page.locator(".graphiql-doc-explorer").get_by_text("contactFamily", exact=True)).to_be_visible()


async def test_the_explorer_offers_the_fields(page: Page) -> None:
    await page.get_by_label("Show GraphiQL Explorer").click()
    await expect(page.locator(".docExplorerWrap").get_by_text("identify", exact=True)).to_be_visible()


async def test_assets_stay_in_caches_and_the_page_is_asked_for_again(api: httpx2.AsyncClient) -> None:
    page = await api.get("/graphql", headers={"Accept": "text/html"})
    assert page.headers["cache-control"] == "no-cache"
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
    for path in re.findall(r'"(/graphql/assets/[^"]+)"', page.text):
        gzipped = await api.get(path, headers={"Accept-Encoding": "gzip"})
        plain = await api.get(path, headers={"Accept-Encoding": "gzip;q=0"})
        assert gzipped.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert (gzipped.headers["content-encoding"], "content-encoding" in plain.headers) == ("gzip", False)
        assert gzipped.content == plain.content


@pytest.mark.parametrize("name", ["nothing.js", "page.html", "LICENCES.txt", "..%2Fview.py"])
async def test_no_other_name_is_served(api: httpx2.AsyncClient, name: str) -> None:
    response = await api.get(f"/graphql/assets/{name}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


async def _open(page: Page, name: str) -> None:
    await page.get_by_role("tab", name=name).click()
    # GraphiQL takes note of the operation a moment after it shows it, and stores it then.
    await page.wait_for_function("name => localStorage['graphiql:query']?.includes(name)", arg=f" {name}(")


async def _run(page: Page) -> None:
    async with page.expect_response(lambda response: response.request.method == "POST"):
        await page.get_by_role("button", name=re.compile("^Execute query")).click()


async def _photograph(page: Page, picture: str) -> None:
    """A family of two, as the graph answers it."""
    person = {"email": "mcfly@hillvalley.edu", "phoneNumber": "123456"}
    await page.request.post("/identify", data=person)
    await _open(page, "Family")
    answer = page.locator(".result-window")
    async with asyncio.timeout(30):
        while not {"GRAPH", "SECONDARY"} <= set(re.findall(r"\w+", await answer.inner_text())):
            await _run(page)
    await page.get_by_label("Show Documentation Explorer").click()
    await page.locator(".graphiql-doc-explorer").get_by_text("ContactFamily", exact=True).click()
    await page.screenshot(path=picture)


def _is_own(url: str, server: ApiServer) -> bool:
    return url.startswith((f"{server.url}/", "data:", "blob:"))
