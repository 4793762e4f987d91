"""The reader of an import: a separate process that brings a file into canonical form, chunk by chunk.

Reading takes a third of the time of writing, and one Python process does one of them at a time. Chunks go through a
pipe: the reader waits until the import takes its chunk, and ends when the import is gone.
"""

import asyncio
import multiprocessing
import signal
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Self
from uuid import UUID

import msgspec

from nexus_graph.bulk.columns import Options
from nexus_graph.bulk.contacts import Contact, Note, read_contacts
from nexus_graph.bulk.lines import BadRow, Row, UnclearColumns, UnreadableFile
from nexus_graph.bulk.rows import Layout, Understood, open_rows
from nexus_graph.config import Settings
from nexus_graph.gc_freeze import freeze_gc
from nexus_graph.model import IdentifyRequest

# A forked child would share this process's connections.
_PROCESSES: Final = multiprocessing.get_context("spawn")


class Chunk(msgspec.Struct):
    """Consecutive rows, each identifier once. `pairs` and `lines` are parallel; a pair names identifiers by index."""

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


class Opened(msgspec.Struct, tag=True):
    """The first message: the file can be read."""

    size_bytes: int
    understood: Understood
    layout: Layout


class _Part(msgspec.Struct, tag=True):
    chunk: Chunk
    position_bytes: int
    """How far into the file the chunk reaches."""


class _Ended(msgspec.Struct, tag=True):
    """The last message. `reason`: why the file could not be read, or not to its end."""

    reason: str | None = None
    unclear: bool = False
    """True if the columns are unclear."""
    later: list[str] = []
    """Unused members that first appear after the first rows."""


_Message = Opened | _Part | _Ended
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Message).decode


class Reader:
    """Reads a file in its own process. Entering raises UnreadableFile and UnclearColumns."""

    opened: Opened

    def __init__(self, file: Path, settings: Settings, options: Options | None = None) -> None:
        self.size_bytes = 0
        self.later: list[str] = []
        """Unused members that first appear after the first rows: known after the last chunk."""
        self.position_bytes = 0
        """How far into the file the chunks so far reach."""
        self._receiving, self._sending = _PROCESSES.Pipe(duplex=False)
        self._process = _PROCESSES.Process(
            target=_read,
            args=(self._sending, file, settings, options or Options()),
            name="nexus-graph import reader",
            daemon=True,
        )
        self._next: asyncio.Task[_Message] | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._process.start)
        self._sending.close()  # only the reader holds the sending end now, so its death ends the pipe
        try:
            opened = await self._receive()
            assert isinstance(opened, Opened)
            self.opened = opened
            self.size_bytes = opened.size_bytes
        except BaseException:
            await self._stop()
            raise
        self._receive_ahead()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def next(self) -> Chunk | None:
        """The next chunk; None after the last. Raises UnreadableFile, after the chunks before it."""
        assert self._next is not None
        message = await self._next
        if isinstance(message, _Ended):
            self.later = message.later
            return None
        assert isinstance(message, _Part)
        self._receive_ahead()
        self.position_bytes = message.position_bytes
        return message.chunk

    def _receive_ahead(self) -> None:
        self._next = asyncio.create_task(self._receive())

    async def _receive(self) -> _Message:
        try:
            message: _Message = await asyncio.to_thread(lambda: _decode(self._receiving.recv_bytes()))
        except EOFError:
            raise UnreadableFile("the process that read it was killed") from None
        if isinstance(message, _Ended) and message.reason is not None:
            raise (UnclearColumns if message.unclear else UnreadableFile)(message.reason)
        return message

    async def _stop(self) -> None:
        self._process.kill()  # the reader has nothing to clean up
        await asyncio.to_thread(self._process.join)
        if self._next is not None:
            await asyncio.gather(self._next, return_exceptions=True)
        self._receiving.close()
        self._process.close()


def _read(sending: Connection, file: Path, settings: Settings, options: Options) -> None:
    """The reader's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the import handles it
    freeze_gc()
    with suppress(BrokenPipeError):  # the import is gone
        ended = _Ended()
        try:
            with open_rows(file, options.choice) as rows:
                understood = rows.understood
                sending.send_bytes(_encode(Opened(rows.size_bytes, understood, rows.layout)))
                contacts = read_contacts(rows, region=settings.phone_region, strict=options.strict)
                wanted = options.rejects is not None
                for chunk in chunks(contacts, rows=settings.import_chunk_rows, with_rejected=wanted):
                    sending.send_bytes(_encode(_Part(chunk, rows.position_bytes)))
                ended.later = rows.understood.unused[len(understood.unused) :]
        except UnreadableFile as error:
            ended.reason, ended.unclear = str(error), isinstance(error, UnclearColumns)
        except Exception as error:  # noqa: BLE001 - the import says what became of its reader
            from nexus_graph.failures import why  # noqa: PLC0415 - it brings all drivers, which a reader else needs not

            ended.reason = why(error)
        sending.send_bytes(_encode(ended))


def chunks(contacts: Iterable[Contact], *, rows: int, with_rejected: bool = False) -> Iterator[Chunk]:
    """The contacts in chunks of `rows`. Raises the errors of `contacts`, UnreadableFile after the chunks before it."""
    source = iter(contacts)
    ending: UnreadableFile | None = None
    while True:
        chunk = Chunk()
        pairs, lines = chunk.pairs, chunk.lines
        # The first lookup of an identifier assigns the next index.
        places: defaultdict[str, int] = defaultdict(count().__next__)
        try:
            for contact in islice(source, rows):
                chunk.rows += 1
                chunk.first_line = chunk.first_line or contact.line
                for email, phone in contact.pairs:
                    pairs.append((None if email is None else places[email], None if phone is None else places[phone]))
                    lines.append(contact.line)
                if contact.notes:
                    chunk.notes += contact.notes
                    if with_rejected and (row := contact.row) is not None:
                        rejected = row if row.text is None else Row(row.line, [], row.text)
                        chunk.rejected.append((rejected, contact.notes))
        except UnreadableFile as error:
            ending = error
        chunk.identifiers += places
        if chunk.rows:
            yield chunk
        if ending is not None:
            raise ending
        if chunk.rows < rows:
            return
