"""The reader of an import: a process of its own that brings a file into canonical form, chunk by chunk.

Reading takes Python a third as long as writing does, and one process can do only one of them at a time. The two speak
through a pipe: the reader waits until its chunk is taken, and ends when nobody is left to take it.
"""

import asyncio
import multiprocessing
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Self

import msgspec

from nexus_graph.bulk.chunk import Chunk, chunks
from nexus_graph.bulk.contacts import Contacts
from nexus_graph.bulk.options import Options
from nexus_graph.bulk.reading import UnclearColumns, UnreadableFile
from nexus_graph.bulk.rows import Understood, open_rows
from nexus_graph.config import Settings
from nexus_graph.gc_freeze import freeze_gc

# A child that is a copy of this process would share its connections.
_PROCESSES: Final = multiprocessing.get_context("spawn")


class Opened(msgspec.Struct, tag=True):
    """The first word, of a file that can be read."""

    size_bytes: int
    understood: Understood
    names: list[str]
    added: list[int]
    """The places of what a file of rejects has before the row's own columns."""
    delimiter: str


class _Part(msgspec.Struct, tag=True):
    chunk: Chunk
    position_bytes: int
    """How far into the file it reaches."""


class _Ended(msgspec.Struct, tag=True):
    """The last word. `reason`: why the file could not be read, or not beyond this point."""

    reason: str | None = None
    unclear: bool = False
    """True if it is the columns that are not understood."""
    later: list[str] = []
    """Members that are not used and came after the first rows."""


_Word = Opened | _Part | _Ended
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Word).decode


class Reader:
    """A file that is being read. Opening it raises UnreadableFile, and UnclearColumns."""

    opened: Opened

    def __init__(self, file: Path, settings: Settings, options: Options | None = None) -> None:
        self.size_bytes = 0
        self.later: list[str] = []
        """Members that are not used and came after the first rows: known after the last chunk."""
        self.position_bytes = 0
        """How far into the file the chunks so far reach."""
        self._receiving, self._sending = _PROCESSES.Pipe(duplex=False)
        self._process = _PROCESSES.Process(
            target=_read,
            args=(self._sending, file, settings, options or Options()),
            name="nexus-graph import reader",
            daemon=True,
        )
        self._coming: asyncio.Task[_Word] | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._process.start)
        self._sending.close()  # the reader alone holds that end now: when it is gone there is nothing to wait for
        try:
            opened = await self._hear()
            assert isinstance(opened, Opened)
            self.opened = opened
            self.size_bytes = opened.size_bytes
        except BaseException:
            await self._stop()
            raise
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def next(self) -> Chunk | None:
        """The next chunk; None after the last. Raises UnreadableFile, once the rows before it were given."""
        assert self._coming is not None
        word = await self._coming
        if isinstance(word, _Ended):
            self.later = word.later
            return None
        assert isinstance(word, _Part)
        self._listen()
        self.position_bytes = word.position_bytes
        return word.chunk

    def _listen(self) -> None:
        self._coming = asyncio.create_task(self._hear())

    async def _hear(self) -> _Word:
        try:
            word: _Word = await asyncio.to_thread(lambda: _decode(self._receiving.recv_bytes()))
        except EOFError:
            raise UnreadableFile("what was reading it was ended") from None
        if isinstance(word, _Ended) and word.reason is not None:
            raise (UnclearColumns if word.unclear else UnreadableFile)(word.reason)
        return word

    async def _stop(self) -> None:
        self._process.kill()  # it has nothing to put in order
        await asyncio.to_thread(self._process.join)
        if self._coming is not None:
            await asyncio.gather(self._coming, return_exceptions=True)
        self._receiving.close()
        self._process.close()


def _read(sending: Connection, file: Path, settings: Settings, options: Options) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts both; the import says what that means
    freeze_gc()
    with suppress(BrokenPipeError):  # nobody listens any more
        ended = _Ended()
        try:
            with open_rows(file, line_max_bytes=settings.load_line_max_bytes, choice=options.choice) as rows:
                understood, columns = rows.understood, rows.columns
                opened = Opened(rows.size_bytes, understood, columns.names, columns.rejects, rows.delimiter)
                sending.send_bytes(_encode(opened))
                contacts = Contacts(rows, columns, region=settings.phone_region, strict=options.strict)
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
