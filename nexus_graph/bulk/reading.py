"""The rows of a file, and the errors that end reading."""

from typing import Any

import msgspec


class UnreadableFile(Exception):
    """The file cannot be read, or not to its end. `str()` says where and why."""


class UnclearColumns(UnreadableFile):
    """The columns of emails and phones are unclear. No row of the file was sent."""


class Row(msgspec.Struct, tag=True, gc=False):
    """A row's values by the positions of their columns, unchanged."""

    line: int
    """The line on which the row begins."""
    values: list[Any]
    text: str | None = None
    """The whole line, if the file is JSON lines."""


class BadRow(msgspec.Struct, tag=True, gc=False):
    """A row without a contact. The rows after it can be read."""

    line: int
    reason: str
    values: list[Any]
    text: str | None = None
