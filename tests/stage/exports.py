"""Files of contacts as programs and people write them, read without a server."""

from pathlib import Path

from nexus_graph.bulk.columns import Choice
from nexus_graph.bulk.contacts import Contact, Pair, read_contacts
from nexus_graph.bulk.rows import Understood, open_rows

LINE_MAX_BYTES = 4_096

Noted = tuple[str, int, str | None, str]
"""What became of it, the line, the column, the reason."""


def put(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def understood(file: Path, *, mapped: tuple[str, ...] = (), ignored: tuple[str, ...] = ()) -> Understood:
    choice = Choice.of_options(mapped, ignored)
    with open_rows(file, line_max_bytes=LINE_MAX_BYTES, choice=choice) as rows:
        return rows.understood


def contacts(
    file: Path,
    *,
    mapped: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
    region: str | None = None,
    strict: bool = False,
) -> list[Contact]:
    choice = Choice.of_options(mapped, ignored)
    with open_rows(file, line_max_bytes=LINE_MAX_BYTES, choice=choice) as rows:
        read = list(read_contacts(rows, region=region, strict=strict))
        assert rows.position_bytes == rows.size_bytes
    return read


def pairs(read: list[Contact]) -> list[tuple[int, Pair]]:
    """Each pair with the line of its row."""
    return [(contact.line, pair) for contact in read for pair in contact.pairs]


def notes(read: list[Contact]) -> list[Noted]:
    return [(note.fate.value, note.line, note.column, note.reason) for contact in read for note in contact.notes]
