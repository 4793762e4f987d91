"""The page for browsers, as the package holds it."""

from hashlib import sha256
from pathlib import Path

from nexus_graph.api.graphql.transport.page import PAGE

_SOURCES = {".js", ".jsx", ".json", ".css", ".html"}


def test_the_bundle_is_built_from_these_sources(project: Path) -> None:
    sources = [path for path in (project / "deploy/graphiql").iterdir() if path.suffix in _SOURCES]
    digest = sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    assert digest.encode() in PAGE.body, "the bundle is out of date: run `make graphiql`"
