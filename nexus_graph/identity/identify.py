"""identify: who is this? The verb that every client calls.

A request whose identifiers are all known, in one family and paired before, is answered by the fast path: one statement,
one snapshot, no lock. Any other goes through the write path: a batch under the one write lock (docs/adr/0001). Both are
linearizable; the cache never answers here.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from time import monotonic
from typing import Final
from uuid import UUID

from nexus_graph import telemetry
from nexus_graph.cache.families import FamilyCache
from nexus_graph.config import Settings
from nexus_graph.errors import NexusError, RowRejected
from nexus_graph.gather.bounds import identify_bounds
from nexus_graph.gather.gatherer import Gatherer
from nexus_graph.model import Family, Identification, IdentifyRequest, Outcome
from nexus_graph.statements import sql
from nexus_graph.store import database
from nexus_graph.store.database import Pool, is_datas_fault
from nexus_graph.store.record import HEALTH_SECONDS, WELL, Condition, Record

_LOG = telemetry.log("identify")
_outcomes = cache(telemetry.IDENTIFY_OUTCOMES.labels)
FEW: Final = 3
"""A batch of fewer requests is decided in turn, as that is cheaper than together (docs/tried.md)."""


class Identify:
    """The verb. `resolve_pool` serves the fast path, `write_pool` the write path: reads never wait behind the lock.
    All their connections are its own until it is closed.
    """

    def __init__(
        self, *, resolve_pool: Pool, write_pool: Pool, settings: Settings, cache: FamilyCache | None = None
    ) -> None:
        """`cache` learns of writes; identify never reads it."""
        self._cache = cache
        self.resolving = Record(resolve_pool, settings)
        """For the fast path, and for migrations' and versions' checks."""
        self.writing = self.resolving
        """For the write path."""
        if write_pool is not resolve_pool:
            # A writer may wait for the lock, and that wait is no sign of a server that hangs.
            patience_seconds = database.LOCK_TIMEOUT_SECONDS + HEALTH_SECONDS
            self.writing = Record(write_pool, settings, patience_seconds=patience_seconds)
        self._family_limit = settings.family_limit_contacts
        lanes = resolve_pool.get_max_size()
        self._known = Gatherer("resolve", self.resolved, identify_bounds(settings, batches_max=lanes))
        # The write lock admits one batch at a time: a second would wait on the server.
        self._unknown = Gatherer("identify", self.decided, identify_bounds(settings, batches_max=1))

    async def __call__(self, request: IdentifyRequest) -> Identification:
        """The family of the request and the outcome; the write is committed and durable.

        Raises Overloaded or Unavailable (the effect is unknown; a repeat is safe) and RowRejected, within
        `identify_timeout_seconds` even if a server hangs.
        """
        began = monotonic()
        try:
            family = await self._known.ask(request, since=began)
            if family is not None:
                return Identification(Outcome.MATCHED, family)
            answer = await self._unknown.ask(request, since=began)
            self.note(answer)
        except NexusError as error:
            telemetry.IDENTIFY_ERRORS.labels(error.code).inc()
            raise
        return answer

    def note(self, answer: Identification) -> None:
        """The write path gave this answer: the cache learns of a change, and metrics count."""
        if self._cache is not None and answer.outcome is not Outcome.MATCHED:
            self._cache.identified(answer)
        _outcomes(answer.outcome.value, "write").inc()

    async def condition(self) -> Condition:
        """The worse condition of the record's two paths: fast path and write path."""
        conditions = await asyncio.gather(self.resolving.condition(), self.writing.condition())
        return next((condition for condition in conditions if condition is not WELL), WELL)

    async def close(self) -> None:
        """Answer accepted requests, then stop and give the pools their connections back."""
        await self._known.close()
        await self._unknown.close()
        await self.resolving.close()
        await self.writing.close()

    async def resolved(self, requests: list[IdentifyRequest]) -> list[Family | None]:
        """The fast path's families of one snapshot, None for a request that the write path must decide."""
        families: list[Family | None] = [None] * len(requests)
        in_full = not all(request.brief for request in requests)
        try:
            rows = await self.resolving.fetch(sql("resolve_identities"), *columns(requests)[:2], in_full)
        except Exception as error:
            if not is_datas_fault(error):
                raise
            # One request's data is unreadable: all count as unknown, and the write path finds the request.
            _LOG.warning("resolve_rejected", error=telemetry.error_name(error), requests=len(requests))
            return families
        for row in rows:
            family = Family.of_columns(*row[1:])
            for place in row[0]:
                families[place - 1] = family
        _outcomes(Outcome.MATCHED.value, "fast").inc(sum(len(row[0]) for row in rows))
        return families

    async def decided(self, requests: list[IdentifyRequest]) -> Sequence[Identification | Exception]:
        """The write path's answers, each as if it saw the last. Raises what the record raises: nothing is known."""
        try:
            return await self._call(requests)
        except Exception as error:
            if not is_datas_fault(error):
                raise
            # One request's data failed the call, and nothing was written.
            event = "row_rejected" if len(requests) == 1 else "batch_rejected"
            _LOG.warning(event, error=telemetry.error_name(error), requests=len(requests))
        if len(requests) == 1:
            return [RowRejected("the database refused this request for its data")]
        # Each request in a call of its own: only the one at fault fails.
        answers: list[Identification | Exception] = []
        for request in requests:
            try:
                answers += await self.decided([request])
            except Exception as error:  # noqa: BLE001 - an answer to the callers it concerns
                # The server fails. Earlier requests are committed; each later one would wait for the same failure.
                answers += [error] * (len(requests) - len(answers))
                break
        return answers

    async def _call(self, requests: list[IdentifyRequest]) -> list[Identification]:
        arguments = *columns(requests), self._family_limit
        if len(requests) < FEW:
            rows = await self.writing.fetch(sql("identify_few"), *arguments)
        else:
            rows = await self.writing.fetch(sql("identify_batch"), *arguments, FEW)
        return [Identification(Outcome(row[0]), Family.of_columns(*row[2:]), row[1]) for row in rows]


def columns(
    requests: Sequence[IdentifyRequest],
) -> tuple[list[str | None], list[str | None], list[UUID | None]]:
    """Emails, phones and request ids, as the statements take them."""
    return (
        [request.email for request in requests],
        [request.phone for request in requests],
        [request.request_id for request in requests],
    )
