"""identify: who is this? The verb that every client calls.

A request whose identifiers are all known, in one family and paired before, is answered by the fast path: one statement,
one snapshot, no lock. Any other goes through the write path: a batch under the one write lock (docs/adr/0001). Both are
linearizable; the cache never answers here.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic

import asyncpg

from nexus_graph import telemetry
from nexus_graph.cache.families import FamilyCache
from nexus_graph.condition import WELL, Condition
from nexus_graph.config import Settings
from nexus_graph.errors import NexusError, RowRejected, Unavailable
from nexus_graph.gather.gatherer import Gatherer
from nexus_graph.model import Family, Identification, IdentifyRequest, Outcome
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool, is_datas_fault, is_datas_state
from nexus_graph.store.record import Record

_LOG = telemetry.log("identify")
_FAILED = "FAILED"
_FEW = 2
"""Requests that the plain statement decides in less time than the one that decides many together."""


class Identify:
    """The verb. `resolve_pool` serves the fast path, `write_pool` the write path: reads never wait behind the lock.
    All their connections are its own until it is closed.
    """

    def __init__(
        self, *, resolve_pool: Pool, write_pool: Pool, settings: Settings, cache: FamilyCache | None = None
    ) -> None:
        """`cache`: is told of what is written, and never asked."""
        self._cache = cache
        self.resolving = Record(resolve_pool, settings)
        """For the fast path, and for what else identify cannot be without."""
        self._writing = self.resolving
        if write_pool is not resolve_pool:
            # A writer waits for the lock: that is no sign of a server that hangs.
            patience_seconds = settings.lock_timeout_seconds + settings.health_timeout_seconds
            self._writing = Record(write_pool, settings, patience_seconds=patience_seconds)
        self._known_count = telemetry.IDENTIFY_OUTCOMES.labels(Outcome.MATCHED.value, "fast")
        self._written_counts = {
            outcome: telemetry.IDENTIFY_OUTCOMES.labels(outcome.value, "write") for outcome in Outcome
        }
        self._family_limit = settings.family_limit_contacts
        self._known = Gatherer("resolve", self._resolve, settings.resolve_bounds())
        self._unknown = Gatherer("identify", self._decide, settings.write_bounds())

    async def __call__(self, request: IdentifyRequest) -> Identification:
        """The family of the request and what was done; the answer is committed and durable.

        Raises Overloaded or Unavailable (nothing is known of the effect; sending it again is safe) and RowRejected,
        within `identify_timeout_seconds` whatever hangs.
        """
        began = monotonic()
        try:
            family = await self._known.ask(request, since=began)
            if family is not None:
                return Identification(Outcome.MATCHED, family)
            answer = await self._unknown.ask(request, since=began)
            if self._cache is not None and answer.outcome is not Outcome.MATCHED:
                self._cache.identified(answer)
        except NexusError as error:
            telemetry.IDENTIFY_ERRORS.labels(error.code).inc()
            raise
        self._written_counts[answer.outcome].inc()
        return answer

    async def condition(self) -> Condition:
        """How the record is for the fast path and for the write path, whichever is worse off."""
        conditions = await asyncio.gather(self.resolving.condition(), self._writing.condition())
        return next((condition for condition in conditions if condition is not WELL), WELL)

    async def close(self) -> None:
        """Answer what was accepted, then stop, and give the pools their connections back."""
        await self._known.close()
        await self._unknown.close()
        await self.resolving.close()
        await self._writing.close()

    async def _resolve(self, requests: list[IdentifyRequest]) -> list[Family | None]:
        families: list[Family | None] = [None] * len(requests)
        in_full = not all(request.brief for request in requests)
        try:
            rows = await self.resolving.fetch(sql("resolve_identities"), *_columns(requests), in_full)
        except Exception as error:
            if not is_datas_fault(error):
                raise
            # Somebody's data is unreadable: nobody is known for now, and the write path finds out whose it is.
            _LOG.warning("resolve_rejected", error=telemetry.error_name(error), requests=len(requests))
            return families
        for row in rows:
            family = Family.of_columns(*row[1:])
            for place in row[0]:
                families[place - 1] = family
        self._known_count.inc(sum(len(row[0]) for row in rows))
        return families

    async def _decide(self, requests: list[IdentifyRequest]) -> Sequence[Identification | Exception]:
        try:
            return await self._call("identify_few" if len(requests) <= _FEW else "identify_batch", requests)
        except Exception as error:
            if not is_datas_fault(error):
                raise
            # The call as a whole failed for somebody's data, and nothing was written.
            _LOG.warning("batch_rejected", error=telemetry.error_name(error), requests=len(requests))
        try:
            return await self._call("identify_batch_carefully", requests)
        except Exception as error:
            if not is_datas_fault(error):
                raise
            if len(requests) == 1:
                _LOG.warning("row_rejected", error=telemetry.error_name(error))
                return [RowRejected("the database refused this request for its data")]
            # It does not even reach the server: each alone, then.
            return [(await self._decide([request]))[0] for request in requests]

    async def _call(self, statement: str, requests: list[IdentifyRequest]) -> list[Identification | Exception]:
        emails, phones = _columns(requests)
        request_ids = [request.request_id for request in requests]
        rows = await self._writing.fetch(sql(statement), emails, phones, request_ids, self._family_limit)
        return [_identification(row) for row in rows]


def _columns(requests: list[IdentifyRequest]) -> tuple[list[str | None], list[str | None]]:
    return [request.email for request in requests], [request.phone for request in requests]


def _identification(row: asyncpg.Record) -> Identification | Exception:
    outcome, reason = row[0], row[1]
    if outcome == _FAILED:
        _LOG.warning("row_rejected", error=reason)
        if not is_datas_state(reason):
            return Unavailable("the record does not take this request now; it may be sent again")
        return RowRejected("the database refused this request for its data")
    return Identification(Outcome(outcome), Family.of_columns(*row[2:]), reason)
