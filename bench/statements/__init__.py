"""The SQL and Cypher of the benchmark, in files of their own: `<name>.sql`, `<name>.cypher`."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent


@cache
def statement(name: str) -> str:
    """Text of a file in this folder; FileNotFoundError if there is none."""
    return (FOLDER / name).read_text(encoding="utf-8")
