"""The keys that tokens are signed with, kept up to date.

One task reads the set again before it ages. A read that fails, or that brings no usable key, leaves the last good set
in place; the set counts until it is NEXUS_JWT_JWKS_MAX_AGE_SECONDS old, and from then on no token is judged. Unknown
keys cause one read a minute, however many there are: their names are not remembered, so they cost no memory, and known
keys are found without any of this.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from nexus_graph import telemetry
from nexus_graph.door.key_set import KeySet, UnusableKeys, key_set_of
from nexus_graph.door.key_sources import Source
from nexus_graph.errors import KeysUnavailable, UnusableAddress
from nexus_graph.tasks import is_set_within, raise_if_cancelled

FIRST_RETRY_SECONDS: Final = 1.0
"""The pause after a failed first read. Each further pause is twice as long, up to the source's own."""

_SPREAD: Final = (0.9, 1.0)
"""Processes that start together do not read together for ever."""

_LOG = telemetry.log("door")


class Jwks:
    """The keys of one place."""

    def __init__(self, source: Source, *, max_age_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds, from anywhere."""
        self._source = source
        self._rhythm = source.rhythm
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._keys: KeySet | None = None
        self._content = b""
        self._good_at = self._asked_at = -float("inf")
        self._due = clock()
        self._first_retry_seconds = FIRST_RETRY_SECONDS
        self._is_failing = self._is_asked = False
        self._wake = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the set, and keep it. Raises UnusableAddress for a file that holds none; while an address is away, the
        keys are unavailable.
        """
        await self._read(self._clock(), is_start=True)
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Stop reading."""
        tasks = [task for task in (self._keeping, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def current(self) -> KeySet:
        """The keys; the same object as long as they are the same. Raises KeysUnavailable."""
        if self._keys is None or self._clock() - self._good_at > self._max_age_seconds:
            raise KeysUnavailable("tokens cannot be checked now; the same request may be sent again")
        return self._keys

    async def look_again(self) -> None:
        """For a token of an unknown key: return once the set has been read again, or at once if unknown keys have
        caused a read within a minute; it is read at the end of that minute then.
        """
        if self._reading is None:
            now = self._clock()
            allowed_at = self._asked_at + self._rhythm.asked
            if now < allowed_at:
                if not self._is_asked:
                    self._is_asked = True
                    self._due = min(self._due, allowed_at)
                    self._wake.set()
                return
            self._asked_at, self._is_asked = now, False
        await asyncio.shield(self._reading_begun())

    def _reading_begun(self) -> asyncio.Task[None]:
        """The read under way, begun if there is none. A caller that stops waiting does not end the read."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(self._clock()))
            self._reading.add_done_callback(self._read_ended)
        return self._reading

    def _read_ended(self, reading: asyncio.Task[None]) -> None:
        self._reading = None
        self._wake.set()
        if not reading.cancelled():
            reading.exception()  # retrieved, so that asyncio does not log it

    async def _keep(self) -> None:
        while True:
            await is_set_within(self._wake, self._due - self._clock())
            self._wake.clear()
            if self._clock() < self._due:
                continue
            if self._is_asked:
                self._asked_at, self._is_asked = self._clock(), False
            await asyncio.shield(self._reading_begun())

    async def _read(self, began: float, *, is_start: bool = False) -> None:
        try:
            content = await self._source.read()
            if self._keys is None or content != self._content:
                self._keys, self._content = key_set_of(content), content
        except Exception as error:  # noqa: BLE001 - whatever it is, the last good set stands and the next read comes
            raise_if_cancelled()
            reason = str(error) if isinstance(error, UnusableKeys) else telemetry.error_name(error)
            self._failed(reason)
            if is_start and self._source.is_here:
                raise UnusableAddress(f"NEXUS_JWT_JWKS {reason}") from None
        else:
            self._succeeded(began)

    def _succeeded(self, began: float) -> None:
        self._good_at = began
        self._due = self._clock() + self._rhythm.refresh * random.uniform(*_SPREAD)  # noqa: S311 - no secret
        telemetry.KEY_SET_READS.labels("read").inc()
        telemetry.KEY_SET_READ_AT.set_to_current_time()
        if self._is_failing:
            self._is_failing = False
            _LOG.info("token_keys_read_again")

    def _failed(self, reason: str) -> None:
        if self._keys is None:
            pause = self._first_retry_seconds
            self._first_retry_seconds = min(2 * pause, self._rhythm.retry)
        else:
            pause = self._rhythm.retry
        self._due = self._clock() + pause
        telemetry.KEY_SET_READS.labels("failed").inc()
        if not self._is_failing:
            self._is_failing = True
            _LOG.warning("token_keys_not_read", reason=reason)
