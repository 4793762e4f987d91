"""A chunk of a file that is imported: its rows in canonical form, each identifier once."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import count, islice
from uuid import UUID

import msgspec

from nexus_graph.bulk.rows import BadRow, Row, Rows, UnreadableFile
from nexus_graph.config import Settings
from nexus_graph.errors import InvalidIdentifier
from nexus_graph.identity.model import IdentifyRequest
from nexus_graph.identity.normalize import identify_request


class Chunk(msgspec.Struct):
    """Consecutive rows. `rows` and `lines` are parallel; a row names its identifiers by their places."""

    identifiers: list[str] = []
    """Distinct. Emails have an @ and phones have none, so that they need not be told apart."""
    rows: list[tuple[int | None, int | None]] = []
    lines: list[int] = []
    invalid: list[tuple[int, str]] = []
    """The line of each row that names nobody, and the rule it breaks."""

    @property
    def first_line(self) -> int:
        return min(self.lines[:1] + [line for line, _ in self.invalid[:1]])

    @property
    def size(self) -> int:
        """Rows of the file, the invalid ones among them."""
        return len(self.rows) + len(self.invalid)

    def requests(self, request_id: UUID) -> Iterator[tuple[int, IdentifyRequest]]:
        """The rows as identify takes them, each with its line."""
        for line, (email, phone) in zip(self.lines, self.rows, strict=True):
            yield line, IdentifyRequest(self._value(email), self._value(phone), request_id)

    def _value(self, place: int | None) -> str | None:
        return None if place is None else self.identifiers[place]


def chunks(rows: Rows, settings: Settings) -> Iterator[Chunk]:
    """The rows of the file, `import_chunk_rows` at a time. Raises UnreadableFile once the rows before it were given."""
    source = iter(rows)
    ending: UnreadableFile | None = None
    while ending is None:
        filling = _Filling(settings)
        try:
            more = filling.fill(source)
        except UnreadableFile as error:
            more, ending = False, error
        if filling.chunk.size:
            yield filling.chunk
        if not more and ending is None:
            return
    raise ending


class _Filling:
    """A chunk on its way: knows the place of each identifier so far."""

    def __init__(self, settings: Settings) -> None:
        self.chunk = Chunk()
        self._rows_max = settings.import_chunk_rows
        self._region = settings.phone_region
        # Who is asked for the first time is given the next place.
        self._places: defaultdict[str, int] = defaultdict(count().__next__)

    def fill(self, source: Iterator[Row | BadRow]) -> bool:
        """Take rows until the chunk is full or the file ends; whether there may be more."""
        try:
            for row in islice(source, self._rows_max):
                self._take(row)
        finally:
            self.chunk.identifiers += self._places
        return self.chunk.size == self._rows_max

    def _take(self, row: Row | BadRow) -> None:
        if isinstance(row, BadRow):
            self.chunk.invalid.append((row.line, row.reason))
            return
        try:
            request = identify_request(row.email, row.phone, region=self._region, request_id=None)
        except InvalidIdentifier as error:
            self.chunk.invalid.append((row.line, error.message))
            return
        email, phone, places = request.email, request.phone, self._places
        self.chunk.rows.append((None if email is None else places[email], None if phone is None else places[phone]))
        self.chunk.lines.append(row.line)
