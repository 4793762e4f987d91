"""The rows of a CSV file, as spreadsheets and programs write it. An unclosed quote never hides the rows below it."""

import csv
import re
from collections.abc import Iterator
from typing import Final

import msgspec

from nexus_graph.bulk.columns import Choice, Columns, sampled, visible
from nexus_graph.bulk.lines import BadRow, Lines, Row, UnclearColumns, UnreadableFile
from nexus_graph.bulk.words import letters

DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

_HEADER_MAX_LINES: Final = 20
"""Column names may contain line ends; a longer header has an unclosed quote."""

_declares_delimiter: Final = re.compile(r'"?sep=([,;\t|:^~])"?', re.IGNORECASE).fullmatch
_quoted_with_spaces_after: Final = re.compile(r'("(?:[^"]|"")*") +')
_digits: Final = re.compile(r"\d")
_PHONE_DIGITS_MIN: Final = 7

_NOT_CLOSED: Final = "a quote is opened and not closed"
_CR_IN_LINE: Final = "a carriage return stands in the middle of the line"


class CsvRows:
    """The rows below a header. Raises UnreadableFile where reading must end; the constructor also UnclearColumns."""

    def __init__(self, lines: Lines, choice: Choice) -> None:
        self._lines = lines
        self._line = 1
        """The line on which the next row begins."""
        names, self.delimiter = self._header(choice)
        self.form = f"CSV, separated by {DELIMITERS.get(self.delimiter, repr(self.delimiter))}"
        self.header = [visible(name) for name in names]
        self._taken: list[str] = []
        self._find_field = _fields_of_contacts(self.delimiter).search
        self.columns = Columns(choice, self.header)
        self._all = sampled(self._rows, self.columns)
        self.columns.check_header()

    def __iter__(self) -> Iterator[Row | BadRow]:
        return self._all

    def _header(self, choice: Choice) -> tuple[list[str], str]:
        texts, declared = self._lines_of_header()
        if not texts:
            raise UnreadableFile("it is empty")
        if "\0" in texts[0]:
            raise UnreadableFile(f"line {self._line} holds NUL characters, as UTF-16 does: save the file as UTF-8")
        headers = [
            header
            for delimiter in ([declared] if declared else DELIMITERS)
            if (header := _Header.read(texts, delimiter, choice))
        ]
        if not headers:
            raise UnreadableFile(f"line {self._line}, which names the columns, is not CSV: {_NOT_CLOSED}")
        best = max(headers, key=lambda header: header.score)
        if not best.score[0] and any(map(_holds_values, best.names)):
            raise UnclearColumns(
                "its first line must name the columns, among them email, phone, phoneNumber or phone_number: "
                "it holds values"
            )
        if best.lines > 1 and any("@" in name for name in best.names):
            raise UnreadableFile(f"line {self._line}, which names the columns, is not CSV: {_NOT_CLOSED}")
        self._lines.give_back(texts[best.lines :])
        self._line += best.lines
        return best.names, best.delimiter

    def _lines_of_header(self) -> tuple[list[str], str | None]:
        """The first lines, with the whole header, and the delimiter if a line above the header declares one."""
        texts: list[str] = []
        declared: str | None = None
        try:
            for text in self._lines:
                declaration = _declares_delimiter(text.strip("\r\n"))
                if not texts and declared is None and declaration is not None:
                    declared = declaration[1]
                elif texts or text.strip():
                    texts.append(text)
                self._line += not texts
                if len(texts) == _HEADER_MAX_LINES:
                    break
        except UnreadableFile:
            if not texts:
                raise  # else `Lines` raises the error again, after the lines before it
        return texts, declared

    def _rows(self) -> Iterator[Row | BadRow]:
        taken, width = self._taken, len(self.header)
        while True:  # a new csv.reader after each row that is not CSV
            reader = csv.reader(self._fed(), delimiter=self.delimiter, strict=True, skipinitialspace=True)
            try:
                for values in reader:
                    span, line = len(taken), self._line
                    if span > 1 and self._hides_rows(taken, values):
                        yield self._bad(f"{_NOT_CLOSED}: the lines below look like rows")
                        break
                    taken.clear()
                    self._line += span
                    if len(values) == width:
                        yield Row(line, values)
                    elif values:
                        yield from self._ragged(line, values)
                else:
                    return
            except csv.Error as error:
                yield from self._not_csv(error)

    def _fed(self) -> Iterator[str]:
        """The lines, kept in `_taken` until their row is complete."""
        taken = self._taken
        for text in self._lines:
            taken.append(text)
            yield text

    def _ragged(self, line: int, values: list[str]) -> Iterator[BadRow | Row]:
        width = len(self.header)
        if not any(values):
            return  # only empty fields
        if not any(values[width:]) and len(values) > width:
            yield Row(line, list(values[:width]))  # trailing delimiters
            return
        amount = "too few" if len(values) < width else "too many"
        yield BadRow(line, f"has {amount} fields: {len(values)}, and the header {width}", list(values))

    def _hides_rows(self, taken: list[str], values: list[str]) -> bool:
        """True if a quoted text contains an email or a phone between delimiters, or lines that are rows by themselves:
        two stray quotes would else make one contact of two people.

        A line that closes the text has an odd number of quotes, so only other lines can be rows.
        """
        return any("\n" in value and self._find_field(value) for value in values) or any(
            text.count('"') % 2 == 0 and self._is_contact(self._fields(text)) for text in taken[1:]
        )

    def _is_contact(self, fields: list[str] | None) -> bool:
        if fields is None or len(fields) != len(self.header):
            return False
        return any("@" in fields[place] for place in self.columns.emails) or any(
            len(_digits.findall(fields[place])) >= _PHONE_DIGITS_MIN for place in self.columns.phones
        )

    def _not_csv(self, error: csv.Error) -> Iterator[Row | BadRow]:
        """The rows of a line that is not CSV, if a lenient reading finds them; else a bad row."""
        text = self._taken[0]
        if len(self._taken) == 1 and "\r" in text.rstrip("\r\n"):
            pieces = [piece for piece in re.split(r"\r(?!\n)", text) if piece.strip()]
            if all(len(self._fields(piece) or ()) == len(self.header) for piece in pieces):
                yield from (Row(self._line, list(self._fields(piece) or ())) for piece in pieces)
                self._line += 1
                self._taken.clear()
                return
            yield self._bad(_CR_IN_LINE)
            return
        fields = self._fields(_quoted_with_spaces_after.sub(r"\1", text))
        if fields is not None and len(fields) == len(self.header):
            self._put_back_below()
            yield Row(self._line - 1, list(fields))
            return
        reason = "has text after a closing quote" if "expected after" in str(error) and len(self._taken) == 1 else None
        yield self._bad(reason or _NOT_CLOSED)

    def _bad(self, reason: str) -> BadRow:
        """Make the first taken line a bad row, and read the lines below it again."""
        text = self._taken[0]
        self._put_back_below()
        try:
            values = next(csv.reader([text.rstrip("\r\n").replace("\r", " ")], delimiter=self.delimiter), [])
        except csv.Error:
            values = [text]
        return BadRow(self._line - 1, reason, list(values))

    def _put_back_below(self) -> None:
        self._lines.give_back(self._taken[1:])
        self._taken.clear()
        self._line += 1

    def _fields(self, text: str) -> list[str] | None:
        """The fields of a single line; None if the line is not CSV."""
        try:
            return next(csv.reader([text], delimiter=self.delimiter, strict=True, skipinitialspace=True), [])
        except csv.Error:
            return None


class _Header(msgspec.Struct):
    """The header, read with one delimiter."""

    names: list[str]
    delimiter: str
    lines: int
    score: tuple[int, int, int]
    """Highest wins: the number of known columns, then of columns like an email or a phone, then of columns."""

    @classmethod
    def read(cls, texts: list[str], delimiter: str, choice: Choice) -> "_Header | None":
        reader = csv.reader(texts, delimiter=delimiter, strict=True, skipinitialspace=True)
        try:
            names = next(reader)
        except csv.Error:
            return None
        if len(names) == 1 and any(other in names[0] for other in DELIMITERS if other != delimiter):
            # Several names under another delimiter: never one known name.
            return cls(names, delimiter, reader.line_num, (0, 0, 1))
        columns = Columns(choice, [visible(name) for name in names])
        return cls(names, delimiter, reader.line_num, (columns.known, len(columns.unclear), len(names)))


def _fields_of_contacts(delimiter: str) -> "re.Pattern[str]":
    """Matches an email or a phone with a delimiter on one side, and a delimiter or a line end on the other."""
    between = re.escape(delimiter)
    field = rf"(?:[^\s\"@{between}]+@[^\s\"@{between}]+|\+?\d[\d ().\-/]{{5,}}\d)"
    return re.compile(rf"(?:^|[\n{between}])\"?{field}\"?{between}|{between}\"?{field}\"?(?:\r?\n|$|{between})")


def _holds_values(name: str) -> bool:
    return "@" in name or (len(_digits.findall(name)) >= _PHONE_DIGITS_MIN and not letters(name))
