"""The first rows of a file, which tell what its columns hold."""

from collections.abc import Iterator
from itertools import islice

from nexus_graph.bulk.columns import SAMPLED_ROWS, Columns
from nexus_graph.bulk.reading import BadRow, Row, UnreadableFile


class Sample:
    """The first rows of a file, which tell what its columns hold. An end of reading among them comes in its place."""

    def __init__(self, rows: Iterator[Row | BadRow], columns: Columns) -> None:
        self._rows: list[Row | BadRow] = []
        self._ending: UnreadableFile | None = None
        try:
            self._rows.extend(islice(rows, SAMPLED_ROWS))
        except UnreadableFile as error:
            self._ending = error
        columns.look([row.values for row in self._rows if isinstance(row, Row)])

    def rows(self) -> Iterator[Row | BadRow]:
        """They, once."""
        yield from self._rows
        self._rows.clear()
        if self._ending is not None:
            raise self._ending
