"""A chunk of a file under import: its pairs in canonical form, each identifier once, and its faults."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import count, islice
from uuid import UUID

import msgspec

from nexus_graph.bulk.contacts import Contact, Note
from nexus_graph.bulk.reading import BadRow, Row, UnreadableFile
from nexus_graph.model import IdentifyRequest


class Chunk(msgspec.Struct):
    """Consecutive rows. `pairs` and `lines` are parallel; a pair names its identifiers by index."""

    identifiers: list[str] = []
    """Distinct. Only emails contain an @, so a value shows its own kind."""
    pairs: list[tuple[int | None, int | None]] = []
    lines: list[int] = []
    first_line: int = 0
    rows: int = 0
    """Rows of the file, including rows that are not sent."""
    notes: list[Note] = []
    rejected: list[tuple[Row | BadRow, list[Note]]] = []
    """Rows with notes; only if the caller writes a file of rejects."""

    def requests(self, request_id: UUID) -> Iterator[tuple[int, IdentifyRequest]]:
        """The pairs as requests to identify, each with its line."""
        for line, (email, phone) in zip(self.lines, self.pairs, strict=True):
            yield line, IdentifyRequest(self._value(email), self._value(phone), request_id)

    def _value(self, place: int | None) -> str | None:
        return None if place is None else self.identifiers[place]


def chunks(contacts: Iterable[Contact], *, rows: int, with_rejected: bool = False) -> Iterator[Chunk]:
    """The contacts in chunks of `rows`. Raises the errors of `contacts`, UnreadableFile after the chunks before it."""
    source = iter(contacts)
    ending: UnreadableFile | None = None
    more = True
    while more and ending is None:
        chunk = Chunk()
        try:
            _fill(chunk, islice(source, rows), with_rejected=with_rejected)
        except UnreadableFile as error:
            ending = error
        if chunk.rows:
            yield chunk
        more = chunk.rows == rows
    if ending is not None:
        raise ending


def _fill(chunk: Chunk, contacts: Iterable[Contact], *, with_rejected: bool) -> None:
    # The first lookup of an identifier assigns the next index.
    places: defaultdict[str, int] = defaultdict(count().__next__)
    pairs, lines, rows = chunk.pairs, chunk.lines, 0
    try:
        for contact in contacts:
            rows += 1
            for email, phone in contact.pairs:
                pairs.append((None if email is None else places[email], None if phone is None else places[phone]))
                lines.append(contact.line)
            if rows == 1:
                chunk.first_line = contact.line
            if contact.notes:
                chunk.notes += contact.notes
                if with_rejected and contact.row is not None:
                    row = contact.row
                    chunk.rejected.append((row if row.text is None else Row(row.line, [], row.text), contact.notes))
    finally:
        chunk.identifiers += places
        chunk.rows = rows
