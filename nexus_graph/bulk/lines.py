"""The lines of a UTF-8 file, the rows that lines make, and the errors that end reading."""

import codecs
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

import msgspec

_READ_BYTES: Final = 64 * 1024
"""Bytes at the beginning that decide how lines end, and bytes of one read where CR ends them."""

_BOM: Final = "\ufeff"


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


class Lines:
    """The lines, one at a time, ended by LF, CR LF, or CR alone as old spreadsheets write it.

    An iterator for one pass. Raises UnreadableFile where reading must end.
    """

    def __init__(self, stream: BinaryIO, line_max_bytes: int) -> None:
        self.position_bytes = 0
        """How far into the file the lines so far reach."""
        self._stream = stream
        self._line_max_bytes = line_max_bytes
        self._read = 0
        self._returned: deque[str] = deque()
        self._ending: UnreadableFile | None = None
        by_cr = _lines_ended_by_cr(stream, line_max_bytes) if _cr_ends_lines(_beginning_of(stream)) else None
        self._source = self._decoded(by_cr)

    def __iter__(self) -> Iterator[str]:
        """The remaining lines. A line given back comes again, also from an older iterator."""
        returned, source = self._returned, self._source
        while True:
            if returned:
                yield returned.popleft()
            elif self._ending is not None:
                raise self._ending
            else:
                try:
                    text = next(source, None)
                except UnreadableFile as error:
                    self._ending = error  # a caller that gives lines back reaches it again
                    raise
                if text is None:
                    return
                yield text

    def give_back(self, lines: Iterable[str]) -> None:
        """Yield these lines, the last ones taken, again."""
        self._returned.extendleft(reversed(list(lines)))

    def _decoded(self, others: Iterator[bytes] | None) -> Iterator[str]:
        readline, most = self._stream.readline, self._line_max_bytes
        while True:
            try:
                line = readline(most + 1) if others is None else next(others, b"")
            except OSError as error:
                raise UnreadableFile(f"line {self._read + 1} cannot be read: {error.strerror}") from None
            if not line:
                return
            self._read += 1
            self.position_bytes += len(line)
            if len(line) > most:
                raise UnreadableFile(f"line {self._read} is longer than {most} bytes")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                raise UnreadableFile(f"line {self._read} is not UTF-8: save the file as UTF-8") from None
            yield text.lstrip(_BOM) if self._read == 1 else text


def _beginning_of(stream: BinaryIO) -> bytes:
    """The first bytes; the stream is back at its start. Raises UnreadableFile if they show UTF-16."""
    try:
        beginning = stream.read(_READ_BYTES)
        stream.seek(0)
    except OSError as error:
        raise UnreadableFile(f"it cannot be read: {error.strerror}") from None
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in beginning[:4]:
        raise UnreadableFile("line 1 is not UTF-8 but UTF-16: save the file as UTF-8")
    return beginning


def _cr_ends_lines(beginning: bytes) -> bool:
    first_cr, first_lf = beginning.find(b"\r"), beginning.find(b"\n")
    return first_cr >= 0 and (first_lf < 0 or first_lf > first_cr + 1)


def _lines_ended_by_cr(stream: BinaryIO, line_max_bytes: int) -> Iterator[bytes]:
    """Each line, its end replaced by LF; of a line that is too long, only the beginning."""
    rest = b""
    while block := stream.read(_READ_BYTES):
        rest += block
        held = rest.endswith(b"\r")  # an LF may follow
        *lines, rest = (rest[:-1] if held else rest).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest += b"\r" if held else b""
        for line in lines:
            yield line + b"\n"
        if len(rest) > line_max_bytes:
            break
    if rest:
        yield rest.replace(b"\r", b"\n")
