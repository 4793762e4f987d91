"""Neo4j Browser as an analyst meets it who follows README: the form asks for the password alone, the guide comes with
its queries, and the graph wears our style.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import pytest
from playwright.async_api import Browser, Page, expect

from nexus_graph.api.neo4j_browser.serving import FAVORITES, GUIDE, STYLE
from nexus_graph.config import Settings
from nexus_graph.devstack.stack import Stack, StackOptions, StackUrls
from tests.stage.running import running_api

LORRAINE = {"email": "lorraine@hillvalley.edu", "phoneNumber": "123456"}
MCFLY = {"email": "mcfly@hillvalley.edu", "phoneNumber": "123456"}
IN_GRAPH = '{contactFamily(by: {email: "mcfly@hillvalley.edu"}, source: GRAPH) {phoneNumbers}}'
PATIENCE_MILLISECONDS = 60_000


@pytest.fixture(scope="module")
async def urls() -> AsyncIterator[StackUrls]:
    """All that `nexus-graph up` starts, with README's family in the graph."""
    with TemporaryDirectory(prefix="nexus-analyst-", ignore_cleanup_errors=True) as folder:
        options = StackOptions(data_dir=Path(folder), port=0, browser_port=0, bolt_port=0, quiet=True)
        async with Stack(options) as stack:
            async with httpx2.AsyncClient(base_url=stack.urls.api, timeout=30) as api, asyncio.timeout(60):
                for person in (LORRAINE, MCFLY):
                    (await api.post("/identify", json=person)).raise_for_status()
                while not await _is_drawn(api):
                    pass
            yield stack.urls


@pytest.fixture
async def page(browser: Browser, urls: StackUrls) -> Page:
    """Neo4j Browser, logged in by the steps of README."""
    page = await (await browser.new_context(viewport={"width": 1400, "height": 1000})).new_page()
    page.set_default_timeout(PATIENCE_MILLISECONDS)
    await page.goto(urls.neo4j_browser)
    await expect(page.get_by_test_id("username")).to_have_value(urls.neo4j_user, timeout=PATIENCE_MILLISECONDS)
    await page.get_by_test_id("password").fill(urls.neo4j_password)
    await page.get_by_test_id("connect").click()
    return page


async def test_an_analyst_sees_the_styled_graph_by_three_queries(page: Page) -> None:
    queries = page.locator("pre.runnable")
    await expect(queries).to_have_count(3, timeout=PATIENCE_MILLISECONDS)
    for number, text in enumerate(await queries.all_inner_texts()):
        await queries.nth(number).locator("i").click()
        title = text.strip().splitlines()[0].removeprefix("// ")
        drawn = page.get_by_test_id("frame").filter(has_text=title).filter(has=page.locator("svg g.node"))
        captions = drawn.first.locator("svg g.node text")
        await expect(captions.first).to_be_attached(timeout=PATIENCE_MILLISECONDS)
        words = " ".join(await captions.all_text_contents())
        assert re.search(r"1\s*primary", words), words
        assert re.search(r"2\s*secondary", words), words
        assert not re.search(r"\b20\d\d-", words), "a contact is named by a time"


DROP = """([zip]) => {
  const data = new DataTransfer()
  data.items.add(new File([Uint8Array.from(atob(zip), c => c.charCodeAt(0))], 'favorites.zip'))
  const drop = new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})
  document.querySelector('.filedrop').dispatchEvent(drop)
}"""


async def test_the_queries_are_favorites_once_their_file_was_dropped(page: Page, urls: StackUrls) -> None:
    queries = page.locator("pre.runnable")
    await expect(queries).to_have_count(3, timeout=PATIENCE_MILLISECONDS)
    titles = [text.strip().splitlines()[0].removeprefix("// ") for text in await queries.all_inner_texts()]
    async with httpx2.AsyncClient(base_url=urls.api) as api:
        file = await api.get(FAVORITES)
    assert (file.status_code, file.headers["content-type"]) == (200, "application/zip")
    await page.evaluate(DROP, [base64.b64encode(file.content).decode()])
    await page.get_by_test_id("navigationFavorites").click()
    await page.get_by_test_id("expandFolder-Identity graph").click()
    for title in titles:
        await expect(page.get_by_test_id(f"scriptTitle-{title}")).to_be_visible(timeout=PATIENCE_MILLISECONDS)


@pytest.mark.parametrize("origins", [(), ("https://app.example",)])
async def test_pages_of_every_origin_may_read_style_and_guide(settings: Settings, origins: tuple[str, ...]) -> None:
    """Neo4j's server is another origin, and its page asks first: it sends headers that are not simple."""
    settings = settings.model_copy(update={"cors_origins": origins})
    asked = {
        "Origin": "http://127.0.0.1:7474",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "cache-control,pragma",
    }
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url) as api:
        for path in (STYLE, GUIDE):
            allowed = await api.options(path, headers=asked)
            assert allowed.status_code == 200
            assert allowed.headers["access-control-allow-origin"] == "*"
            assert {"cache-control", "pragma"} <= set(allowed.headers["access-control-allow-headers"].split(", "))
            read = await api.get(path, headers={"Origin": "http://127.0.0.1:7474"})
            assert (read.status_code, read.headers["access-control-allow-origin"]) == (200, "*")
        assert (await api.get("/neo4j/serving.py")).status_code == 404


async def _is_drawn(api: httpx2.AsyncClient) -> bool:
    """Has the relay brought the family to the graph? It is asked as anybody may ask, and each answer takes its time."""
    answer = await api.post("/graphql", json={"query": IN_GRAPH})
    return answer.json()["data"]["contactFamily"] is not None
