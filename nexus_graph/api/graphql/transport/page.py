"""GraphiQL for browsers, served from this package alone: `make graphiql` bundles it."""

import gzip
from http import HTTPStatus
from pathlib import Path
from typing import Final

from nexus_graph.api.http.answer import HTML, Answer, cacheable
from nexus_graph.api.http.packing import takes
from nexus_graph.api.http.request import Post
from nexus_graph.errors import NotFound

_BUNDLE: Final = Path(__file__).parent / "graphiql"
_TYPES: Final = {".js": b"text/javascript; charset=utf-8", ".css": b"text/css; charset=utf-8"}

# Monaco sets styles from scripts, and its styles embed fonts and images. Everything else must come from this server.
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"font-src data:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PAGE: Final = cacheable(
    Answer(HTTPStatus.OK, (_BUNDLE / "page.html").read_bytes(), HTML, ((b"content-security-policy", _POLICY),)),
    b"no-cache",
)

# A name contains the hash of the content, so the content of a name never changes.
_ASSET_HEADERS: Final = ((b"cache-control", b"public, max-age=31536000, immutable"), (b"vary", b"accept-encoding"))
_GZIPPED: Final = (*_ASSET_HEADERS, (b"content-encoding", b"gzip"))

_ASSETS: Final = {path.stem: path.read_bytes() for path in _BUNDLE.glob("*.gz")}


async def asset(post: Post) -> Answer:
    """The endpoint of the page's scripts and styles: the file that the path names. Raises NotFound if there is none."""
    name = post.parameters["name"]
    body = _ASSETS.get(name)
    if body is None:
        raise NotFound("Not Found")
    content_type = _TYPES[Path(name).suffix]
    if takes(post.headers.get(b"accept-encoding"), b"gzip"):
        return Answer(HTTPStatus.OK, body, content_type, _GZIPPED)
    return Answer(HTTPStatus.OK, gzip.decompress(body), content_type, _ASSET_HEADERS)
