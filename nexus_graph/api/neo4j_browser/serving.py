"""Serves the style and the guide to Neo4j Browser, which is a page of another origin: Neo4j's own server.

Neo4j tells it to fetch them whenever it connects (`browser.post_connect_cmd`). They are the same for everybody and hold
no data, so any page may read them, whatever NEXUS_CORS_ORIGINS says of the rest. An analyst downloads the favorites.
"""

from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException

from nexus_graph.api.http.answer import HTML, Answer, Header
from nexus_graph.api.http.request import Post
from nexus_graph.api.neo4j_browser.favorites import zipped

FOLDER: Final = "/neo4j/"
STYLE: Final = f"{FOLDER}nexus.grass"
GUIDE: Final = f"{FOLDER}guide.html"
FAVORITES: Final = f"{FOLDER}favorites.zip"

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


class BrowserFileRoute:
    """The endpoint of these files."""

    async def answer(self, post: Post) -> Answer:
        """The file that the path names. Raises HTTPException if there is none."""
        name = post.parameters["name"]
        body = _FILES.get(name)
        if body is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        if post.method == "OPTIONS":
            return Answer(HTTPStatus.OK, b"", headers=_HEADERS)
        return Answer(HTTPStatus.OK, body, _TYPES[Path(name).suffix], _HEADERS)
