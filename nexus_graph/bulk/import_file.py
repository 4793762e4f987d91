"""import: write the rows of a file to the record, with the result of `load`, many times as fast.

Each chunk is one transaction under the write lock (`write`): at every commit the record equals what identify would have
made of the rows up to some line. Other callers may identify between chunks. After a killed import the same file,
imported again, gives the result of an unbroken run, as rows that are in change nothing. While one chunk is written
another process reads the next two (`reader`): at most these three are in memory.
"""

import asyncio
from array import array
from collections import Counter
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import Final, TypeAlias
from uuid import uuid4

from nexus_graph import telemetry
from nexus_graph.bulk.decide import FAMILY_LIMIT
from nexus_graph.bulk.load import pause_seconds, stopped, took_no_writes
from nexus_graph.bulk.reader import Chunk, Reader
from nexus_graph.bulk.rejects import Rejects
from nexus_graph.bulk.summary import Summary
from nexus_graph.bulk.write import import_chunk
from nexus_graph.config import Settings
from nexus_graph.errors import RowRejected, Unavailable
from nexus_graph.identity.identify import Identify
from nexus_graph.model import Outcome
from nexus_graph.store.database import Pool, is_datas_fault, is_read_only, is_servers_trouble, open_pool, reason

STATEMENT_TIMEOUT_SECONDS: Final = 60.0
"""Seconds of one statement of an import or a renormalisation: a chunk takes far longer than a request."""

AGAIN: Final = "Import the file again: rows that are in already change nothing."

Failed: TypeAlias = "dict[str, array[int]]"
"""Lines of the rows that the record refused, by reason: eight bytes a line."""

_LOG = telemetry.log("import")


def import_pool(settings: Settings) -> AbstractAsyncContextManager[Pool]:
    """One connection as nexus_import, for statements that take long. Entering raises Unavailable."""
    patient = settings.model_copy(update={"statement_timeout_seconds": STATEMENT_TIMEOUT_SECONDS})
    return open_pool(patient, role="nexus_import", size=1, server="direct")


async def import_rows(
    pool: Pool, reader: Reader, settings: Settings, summary: Summary, rejects: Rejects | None = None
) -> Failed:
    """Import the rows in order and count them into `summary`. Returns the rows that the record refused.

    `pool` must act as nexus_import. Raises UnreadableFile, once the rows before it are in, and Unavailable if the
    record stays away; then, or on cancellation, `summary.stopped` names the first line that may not be in.
    """
    importing = _Importing(pool, settings, summary)
    try:
        while (chunk := await reader.next()) is not None:
            await importing.take(chunk)
            if rejects is not None:
                for row, notes in chunk.rejected:
                    rejects.add(row, notes)
        summary.later = reader.later
    finally:
        summary.ended = monotonic()
    return importing.failed


class _Importing:
    """One run over a file."""

    def __init__(self, pool: Pool, settings: Settings, summary: Summary) -> None:
        self._pool = pool
        self._settings = settings
        self._summary = summary
        self._request_id = uuid4()
        """All events of one import carry this id."""
        self.failed: Failed = {}

    async def take(self, chunk: Chunk) -> None:
        """Write a chunk, with retries for a while if the record is away."""
        try:
            outcomes = await self._outcomes(chunk)
        except Unavailable as error:
            why = error.message if error.__cause__ is None else reason(error.__cause__)
            away = took_no_writes(self._settings, "direct", why)
            self._summary.stopped = stopped(away, chunk.first_line, AGAIN)
            raise
        except asyncio.CancelledError:
            self._summary.stopped = stopped("interrupted", chunk.first_line, AGAIN)
            raise
        self._summary.rows += chunk.rows
        self._summary.pairs += len(chunk.pairs)
        self._summary.outcomes.update(outcomes)
        if refused := outcomes[Outcome.REFUSED]:
            self._summary.refusals[FAMILY_LIMIT] += refused
        for note in chunk.notes:
            self._summary.note(note)

    async def _outcomes(self, chunk: Chunk) -> "Counter[Outcome]":
        settings = self._settings
        trouble = ""
        for attempt in range(settings.load_tries_max):
            if attempt:
                await asyncio.sleep(pause_seconds(attempt - 1))
            try:
                return await import_chunk(
                    self._pool, chunk, self._request_id, family_limit=settings.family_limit_contacts
                )
            except Exception as error:
                _LOG.warning("chunk_failed", line=chunk.first_line, error=telemetry.error_name(error))
                if is_read_only(error):
                    # After a failover this server may be a replica; a new connection may reach the new primary.
                    await self._pool.expire_connections()
                if is_datas_fault(error):
                    return await self._one_by_one(chunk)
                if not is_servers_trouble(error):
                    raise
                trouble = reason(error)
        raise Unavailable(trouble)

    async def _one_by_one(self, chunk: Chunk) -> "Counter[Outcome]":
        """Identify each row alone, after the record refused some row's data: only rows with such data fail."""
        identify = Identify(resolve_pool=self._pool, write_pool=self._pool, settings=self._settings)
        outcomes: Counter[Outcome] = Counter()
        try:
            for line, request in chunk.requests(self._request_id):
                try:
                    outcomes[(await identify(request)).outcome] += 1
                except RowRejected as error:
                    self._summary.failed.add(error.message, line)
                    self.failed.setdefault(error.message, array("Q")).append(line)
        finally:
            await identify.close()
        return outcomes
