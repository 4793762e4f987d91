"""The rows of a file of JSON lines: one object a line, whose members are the columns."""

import json
import re
from collections.abc import Iterator
from typing import Final

from nexus_graph.bulk.columns import ARTICLES, REJECT_COLUMNS, Choice, Columns, sampled
from nexus_graph.bulk.lines import BadRow, Lines, Row
from nexus_graph.identifiers.normalize import Written
from nexus_graph.members import RepeatedMember, members

NOT_JSON: Final = "is not JSON"

MEMBERS_MAX: Final = 1_000
"""Distinct member names of one file: a file with more uses data as names."""

TEXT_MEMBER: Final = "rejected_text"
"""In a file of rejects: the text of a line that was no JSON object, to be mended."""


class JsonRows:
    """The objects. The constructor raises UnclearColumns if the first rows have unclear members."""

    form = "JSON lines"
    delimiter = ","

    def __init__(self, lines: Lines, choice: Choice) -> None:
        self._lines = lines
        self._line = 0
        self._places: dict[str, int] = {}
        self.columns = Columns(choice)
        self._all = sampled(self._rows, self.columns)
        self.columns.check_members()

    def __iter__(self) -> Iterator[Row | BadRow]:
        for row in self._all:
            # The sampled rows have no unclear member: a later row that has one is bad.
            unclear = self.columns.unclear and isinstance(row, Row) and self._unclear(row)
            yield unclear or row

    def _rows(self) -> Iterator[Row | BadRow]:
        for text in self._lines:
            self._line += 1
            if not text.isspace():
                yield self._row(self._line, text.strip())

    def _row(self, line: int, text: str) -> Row | BadRow:
        try:
            value = members(text, parse_float=Written, parse_constant=_no_constant)
        except RepeatedMember:
            return BadRow(line, "names a member twice", [], text)
        except (ValueError, RecursionError):
            return BadRow(line, NOT_JSON, [], text)
        if not isinstance(value, dict):
            return BadRow(line, "is not a JSON object", [], text)
        if TEXT_MEMBER in value:
            return BadRow(line, f"is a reject that was not mended: {TEXT_MEMBER} holds the line", [], text)
        for name in value.keys() - self._places.keys():
            if len(self._places) == MEMBERS_MAX:
                return BadRow(line, f"has a new member, and one file may name {MEMBERS_MAX}", [], text)
            self._places[name] = self.columns.add(name)
        return Row(line, list(map(value.get, self._places)), text)

    def _unclear(self, row: Row) -> BadRow | None:
        for place, kind in self.columns.unclear:
            if place < len(row.values) and row.values[place] is not None:
                reason = f"names {self.columns.shown(place)}, which looks like {ARTICLES[kind]}: --map or --ignore it"
                return BadRow(row.line, reason, [], row.text)
        return None


def reject_of(line: int, column: str | None, reason: str, text: str) -> str:
    """A line for a file of rejects: the object with its fault in more members, or the text that is no object."""
    text = "{" + text[len(earlier[0]) :] if (earlier := _earlier_fault(text)) else text
    fault = json.dumps(dict(zip(REJECT_COLUMNS, (line, column, reason), strict=True)), ensure_ascii=False)
    body = text.removeprefix("{").lstrip()
    if not text.startswith("{") or not text.endswith("}") or not body or reason == NOT_JSON:
        return f"{fault[:-1]}, {json.dumps({TEXT_MEMBER: text}, ensure_ascii=False)[1:]}"
    return f"{fault[:-1]}{'' if body == '}' else ', '}{body}"


_earlier_fault: Final = re.compile(
    r'\{\s*"rejected_line"\s*:\s*\d+\s*,\s*"rejected_column"\s*:\s*(?:null|"(?:[^"\\]|\\.)*")\s*,'
    r'\s*"rejected_reason"\s*:\s*"(?:[^"\\]|\\.)*"\s*,?\s*'
).match
"""The fault of an earlier run, at the beginning of a line that is rejected again."""


def _no_constant(name: str) -> None:
    raise ValueError(name)
