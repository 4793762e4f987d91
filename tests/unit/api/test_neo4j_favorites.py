"""The file of favorites holds the queries of the guide, as Cypher."""

import io
import zipfile

from nexus_graph.api.neo4j_browser.serving import zipped

GUIDE = """<p>Two queries</p>
<pre class="code runnable">
// Shared emails
MATCH (e:Email)&lt;-[:HAS_EMAIL]-(c) RETURN e, c</pre>
<pre class="code">// only to be read</pre>
<pre class="code runnable">
// Contacts
MATCH (c:Contact) RETURN c LIMIT 10</pre>
"""


def test_each_runnable_query_is_a_file() -> None:
    file = zipped(GUIDE)
    assert file == zipped(GUIDE)
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            "Identity graph/1.cypher": "// Shared emails\nMATCH (e:Email)<-[:HAS_EMAIL]-(c) RETURN e, c",
            "Identity graph/2.cypher": "// Contacts\nMATCH (c:Contact) RETURN c LIMIT 10",
        }
