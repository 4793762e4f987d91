"""Redis as the place where all processes count together. Its trouble is never a caller's.

A caller waits for Redis no longer than `WAIT_SECONDS`. After trouble all callers go on without Redis, while one task
asks every `AWAY_SECONDS` whether Redis is back.

No key names a caller: a name is a hash with a secret of this installation, derived from DATABASE_URL, which all
processes share. A count lives no longer than two windows of its rate, or its day; then its name is gone as well.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from hashlib import blake2b
from typing import Final, cast

from redis.exceptions import RedisError

from nexus_graph import telemetry
from nexus_graph.cache.shared import AWAY_SECONDS, open_redis
from nexus_graph.config import Settings
from nexus_graph.statements import lua
from nexus_graph.tasks import keep

WAIT_SECONDS: Final = 0.05
"""Seconds that Redis has to answer before callers go on without it."""

CONNECT_SECONDS: Final = 1.0
"""Seconds that Redis has to answer while no caller waits: at the start, and when Redis may be back."""

_LOG = telemetry.log("door")
_TROUBLE: Final = (RedisError, OSError, TimeoutError)


class SharedCounts:
    """Runs scripts in Redis, each in time or not at all."""

    def __init__(self, settings: Settings, *, on_away: Callable[[], None], on_back: Callable[[], None]) -> None:
        """`on_away` is called when Redis fails, `on_back` when Redis answers again."""
        self._wait_seconds = WAIT_SECONDS
        self._away_seconds = AWAY_SECONDS
        self._redis = open_redis(settings, timeout_seconds=CONNECT_SECONDS)
        self._secret = blake2b(settings.database_url.get_secret_value().encode()).digest()
        self._scripts = {name: self._redis.register_script(lua(name)) for name in ("spend", "read_families")}
        self._on_away, self._on_back = on_away, on_back
        self._probing: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Future[object]] = set()
        self.is_away = False

    async def start(self) -> None:
        """Connect, and find out whether Redis is well."""
        if await self._asked(self._redis.ping(), CONNECT_SECONDS) is None:
            self._leave_alone()

    async def close(self) -> None:
        """Stop. Raises nothing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._redis.aclose()

    def name(self, kind: str, caller: str) -> str:
        """The key of a caller's count."""
        named = blake2b(caller.encode(errors="surrogatepass"), key=self._secret, digest_size=16, person=kind.encode())
        return f"nexus:{kind}:{named.hexdigest()}"

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> list[int] | None:
        """What the script of this name returns; None if Redis is in trouble."""
        if self.is_away:
            return None
        asking = cast("Awaitable[object]", self._scripts[script](keys=keys, args=arguments))
        answer = await self._asked(asking, self._wait_seconds)
        if answer is None:
            self._leave_alone()
        return cast("list[int] | None", answer)

    async def _asked(self, asking: Awaitable[object], seconds: float) -> object:
        """The answer; None if there is none in time."""
        # A task that can be left: closing a connection may take longer than a caller should wait.
        task = asyncio.ensure_future(asking)
        keep(task, self._under_way)
        error: BaseException | None = TimeoutError()
        try:
            # Twice: if this process was late, the answer may have arrived unread.
            for _ in range(2):
                if (await asyncio.wait({task}, timeout=seconds / 2))[0]:
                    error = task.exception()
                    break
        finally:
            task.cancel()
        if error is None:
            return task.result()
        if not isinstance(error, _TROUBLE):
            raise error
        if not self.is_away:
            _LOG.warning("counts_without_redis", error=telemetry.error_name(error))
        return None

    def _leave_alone(self) -> None:
        if not self.is_away:
            self.is_away = True
            self._probing = asyncio.get_running_loop().create_task(self._probe(), context=Context())
            self._on_away()

    async def _probe(self) -> None:
        """End when Redis is back."""
        while True:
            await asyncio.sleep(self._away_seconds)
            if await self._asked(self._redis.ping(), CONNECT_SECONDS) is not None:
                break
        self.is_away = False
        _LOG.info("counts_with_redis_again")
        self._on_back()
