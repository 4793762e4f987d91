"""The SQL, the Cypher and the Lua of the project, by name.

Statements live in files, never in Python strings: `schema/queries/*.sql`, `schema/migrations/*.sql`,
`schema/cache/*.lua` and `cypher/*.cypher`.
Each opens with a comment that states its purpose, its parameters and the index it relies on.
"""

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent
# An installed wheel carries the folders inside the package; a checkout has them at its top.
ROOT = _PACKAGE / "_statements" if (_PACKAGE / "_statements").is_dir() else _PACKAGE.parent

MIGRATIONS = ROOT / "schema" / "migrations"
GRAPHQL_SCHEMA = ROOT / "schema" / "schema.graphql"


@cache
def sql(name: str) -> str:
    """Text of `schema/queries/<name>.sql`; FileNotFoundError if there is none."""
    return (ROOT / "schema" / "queries" / f"{name}.sql").read_text(encoding="utf-8")


@cache
def lua(name: str) -> str:
    """Text of `schema/cache/<name>.lua`, a script for Redis; FileNotFoundError if there is none."""
    return (ROOT / "schema" / "cache" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def cypher(name: str) -> str:
    """Text of `cypher/<name>.cypher`; FileNotFoundError if there is none."""
    return (ROOT / "cypher" / f"{name}.cypher").read_text(encoding="utf-8")
