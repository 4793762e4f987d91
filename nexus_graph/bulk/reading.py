"""What reading a file gives, and what ends it."""

from typing import Any

import msgspec


class UnreadableFile(Exception):
    """The file cannot be read, or not beyond this point. `str()` says where and why."""


class UnclearColumns(UnreadableFile):
    """It cannot be told which columns hold emails and phones. Nothing of the file was taken in."""


class Row(msgspec.Struct, tag=True, gc=False):
    """What a row holds, by the places of the columns, as it stands in the file."""

    line: int
    """The line on which it begins."""
    values: list[Any]
    text: str | None = None
    """All of it, where it is a line of JSON."""


class BadRow(msgspec.Struct, tag=True, gc=False):
    """A row that says nothing of a contact. The rows after it can be read."""

    line: int
    reason: str
    values: list[Any]
    text: str | None = None
