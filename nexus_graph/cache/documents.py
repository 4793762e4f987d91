"""The texts of documents in Redis, by their hashes, for all processes. Its trouble is never a request's.

A request waits for Redis no longer than `TIMEOUT_SECONDS`, and only for a document that its process does not know.
After trouble Redis is left alone for `AWAY_SECONDS`; then one request asks Redis, and all others go on without Redis
until that request is answered.
"""

import asyncio
from collections.abc import Awaitable
from time import monotonic
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from nexus_graph import telemetry
from nexus_graph.cache.shared import AWAY_SECONDS
from nexus_graph.tasks import keep

KEPT_SECONDS: Final = 7 * 24 * 3600
"""Seconds that Redis keeps a document after it was last sent: a week, so that weekly jobs find theirs."""

TIMEOUT_SECONDS: Final = 0.02
"""Seconds that Redis has to answer. Past them it counts as knowing no document: the client sends the document again."""


_LOG = telemetry.log("documents")
_KEY: Final = "nexus:document:"
_TROUBLE: Final = (RedisError, OSError, TimeoutError)
_WRITES_MAX: Final = 64
"""Documents that are on their way to Redis at once; one more is not kept there, and its client will send it again."""


class SharedDocuments:
    """Finds and keeps documents."""

    def __init__(self) -> None:
        self._away_until = 0.0
        self._under_way: set[asyncio.Future[object]] = set()
        self._writes: set[asyncio.Task[object]] = set()

    async def find(self, digest: str, redis: Redis) -> bytes | None:
        """The text of this hash, not checked against the hash; None if there is none or Redis is in trouble."""
        if monotonic() < self._away_until:
            return None
        found = await self._asked("document_not_fetched", redis.get(_KEY + digest))
        return found if isinstance(found, bytes) else None

    def keep(self, digest: str, text: str, redis: Redis) -> None:
        """Remember the text, soon."""
        if len(self._writes) >= _WRITES_MAX or monotonic() < self._away_until:
            return
        asking = redis.set(_KEY + digest, text, ex=KEPT_SECONDS)
        keep(asyncio.create_task(self._asked("document_not_kept", asking)), self._writes)

    async def _asked(self, what: str, asking: Awaitable[object]) -> object:
        """What Redis answers in time; None if it is in trouble."""
        if self._away_until:
            self._away_until = monotonic() + AWAY_SECONDS  # no other request waits for the result
        # A task that the request can leave: closing a connection may take longer than a request should wait.
        task = asyncio.ensure_future(asking)
        keep(task, self._under_way)
        try:
            # Twice: if this process was late, the answer may have arrived unread.
            for _ in range(2):
                if (await asyncio.wait({task}, timeout=TIMEOUT_SECONDS / 2))[0]:
                    break
            else:
                raise TimeoutError
            found = task.result()
        except _TROUBLE as error:
            self._away_until = monotonic() + AWAY_SECONDS
            _LOG.warning(what, error=telemetry.error_name(error))
            return None
        finally:
            task.cancel()
        self._away_until = 0.0
        return found
