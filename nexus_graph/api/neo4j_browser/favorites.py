"""The queries of the guide as a ZIP file: dropped on the page of Neo4j Browser, they are its favorites at once."""

import html
import io
import re
import zipfile
from typing import Final

_FOLDER: Final = "Identity graph"
"""How Neo4j Browser names the folder of these favorites."""

_queries = re.compile(r'<pre class="code runnable">(.*?)</pre>', re.DOTALL).findall


def zipped(guide: str) -> bytes:
    """The same bytes for the same guide. A query is a file; Neo4j Browser names it by its first line, a comment."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for number, text in enumerate(_queries(guide), start=1):
            entry = zipfile.ZipInfo(f"{_FOLDER}/{number}.cypher")  # dated 1980, whenever this runs
            archive.writestr(entry, html.unescape(text).strip())
    return written.getvalue()
