"""Serves the style and the guide to Neo4j Browser, which is a page of another origin: Neo4j's own server.

Neo4j tells it to fetch them whenever it connects (`browser.post_connect_cmd`). They are the same for everybody and hold
no data, so any page may read them, whatever NEXUS_CORS_ORIGINS says of the rest. An analyst downloads the
favorites, the queries of the guide as a ZIP file: dropped on the page of Neo4j Browser, they are there at once.
"""

import html
import io
import re
import zipfile
from http import HTTPStatus
from pathlib import Path
from typing import Final

from nexus_graph.api.http.answer import HTML, Answer, Header
from nexus_graph.api.http.request import Post
from nexus_graph.errors import NotFound

FOLDER: Final = "/neo4j/"
STYLE: Final = f"{FOLDER}nexus.grass"
GUIDE: Final = f"{FOLDER}guide.html"
FAVORITES: Final = f"{FOLDER}favorites.zip"

_FAVORITES_FOLDER: Final = "Identity graph"
"""How Neo4j Browser names the folder of the favorites."""

_queries = re.compile(r'<pre class="code runnable">(.*?)</pre>', re.DOTALL).findall


def zipped(guide: str) -> bytes:
    """The same bytes for the same guide. A query is a file; Neo4j Browser names it by its first line, a comment."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for number, text in enumerate(_queries(guide), start=1):
            entry = zipfile.ZipInfo(f"{_FAVORITES_FOLDER}/{number}.cypher")  # dated 1980, whenever this runs
            archive.writestr(entry, html.unescape(text).strip())
    return written.getvalue()


_HERE: Final = Path(__file__).parent
_TYPES: Final = {".grass": b"text/plain; charset=utf-8", ".html": HTML, ".zip": b"application/zip"}
_FILES: Final = {name: (_HERE / name).read_bytes() for name in ("guide.html", "nexus.grass")}
_FILES["favorites.zip"] = zipped(_FILES["guide.html"].decode())
_HEADERS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-headers", b"cache-control, pragma"),  # Neo4j Browser sends them with each guide
    (b"content-security-policy", b"default-src 'none'"),  # text for Neo4j Browser to read, and no page of ours
)


def after_connecting(api: str) -> str:
    """The commands that Neo4j Browser runs once it is connected, as the value of `browser.post_connect_cmd`."""
    return f"style {api}{STYLE}; play {api}{GUIDE}"


async def browser_file(post: Post) -> Answer:
    """The endpoint: the file that the path names. Raises NotFound if there is none."""
    name = post.parameters["name"]
    body = _FILES.get(name)
    if body is None:
        raise NotFound("Not Found")
    if post.method == "OPTIONS":
        return Answer(HTTPStatus.OK, b"", headers=_HEADERS)
    return Answer(HTTPStatus.OK, body, _TYPES[Path(name).suffix], _HEADERS)
