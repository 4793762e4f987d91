"""The operators' routes: health, liveness, readiness and metrics."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from time import monotonic
from typing import Any, Final, cast

import asyncpg
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Receive, Scope, Send

from nexus_graph import __version__
from nexus_graph.api.responses import encode, respond
from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from nexus_graph.store.migrate import pending
from nexus_graph.store.outbox import outbox_gauges
from nexus_graph.telemetry import error_name, exposition, log

_LOG = log("health")

Check = Callable[[], Awaitable[bool]]
RECORD: Final = "postgres"


class Health:
    """What the servers behind this process answer. Each check is bounded in time, and its answer kept for a moment."""

    def __init__(self, checks: dict[str, Check], settings: Settings) -> None:
        """`checks` names each server; without the one named RECORD nothing can be answered."""
        self._checks = checks
        self._timeout_seconds = settings.health_timeout_seconds
        self._remembered_seconds = settings.health_remembered_seconds
        self._up: dict[str, bool] = {}
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def up(self) -> dict[str, bool]:
        """Which servers answer, by name."""
        if monotonic() - self._asked_at > self._remembered_seconds:
            if self._asking is None or self._asking.done():
                # On behalf of no request in particular: its log lines carry nobody's correlation id.
                self._asking = asyncio.get_running_loop().create_task(self._ask(), context=Context())
            await asyncio.shield(self._asking)
        return self._up

    async def close(self) -> None:
        """Wait for checks under way."""
        if self._asking is not None:
            await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        answers = await asyncio.gather(*(self._answers(name, check) for name, check in self._checks.items()))
        self._up = dict(zip(self._checks, answers, strict=True))
        self._asked_at = monotonic()

    async def _answers(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await check()
        except Exception as error:  # noqa: BLE001 - any way of not answering is not answering
            if self._up.get(name, True):
                _LOG.warning("server_away", server=name, error=error_name(error))
            return False


class HealthRoute:
    """GET /health: ok; degraded while Neo4j, Redis or the replica is away; 503 and down without PostgreSQL."""

    def __init__(self) -> None:
        self._started = monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        health: Health = scope["state"]["health"]
        up = await health.up()
        status = "down" if not up[RECORD] else "ok" if all(up.values()) else "degraded"
        answer: dict[str, Any] = {
            "status": status,
            "version": __version__,
            "checks": {name: {"status": "ok" if answers else "down"} for name, answers in up.items()},
            "uptimeSeconds": round(monotonic() - self._started, 1),
        }
        await respond(send, 503 if status == "down" else 200, encode(answer))


class LiveRoute:
    """GET /livez: this process answers; it asks nobody else."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        await respond(send, 200, encode({"status": "ok"}))


class ReadyRoute:
    """GET /readyz: PostgreSQL answers and its schema is this release's; else 503, so that no traffic comes here."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        health: Health = scope["state"]["health"]
        migrated: Migrated = scope["state"]["migrated"]
        record_up = (await health.up())[RECORD]
        checks = {RECORD: record_up, "migrations": record_up and await migrated()}
        ready = all(checks.values())
        answer = {
            "status": "ok" if ready else "down",
            "checks": {name: {"status": "ok" if good else "down"} for name, good in checks.items()},
        }
        await respond(send, 200 if ready else 503, encode(answer))


class Migrated:
    """Has every migration of this release landed? Once true it stays true."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._timeout_seconds = settings.health_timeout_seconds
        self._landed = False

    async def __call__(self) -> bool:
        if not self._landed:
            try:
                async with asyncio.timeout(self._timeout_seconds), self._pool.acquire() as connection:
                    self._landed = not await pending(cast("asyncpg.Connection[asyncpg.Record]", connection))
            except Exception as error:  # noqa: BLE001 - any way of not answering is not answering
                _LOG.warning("migrations_unknown", error=error_name(error))
        return self._landed


class MetricsRoute:
    """GET /metrics, for Prometheus. The outbox is looked at as it is asked for; away, its last figures stay."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_seconds = settings.health_timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await outbox_gauges(scope["state"]["identity"].pool)
        except Exception as error:  # noqa: BLE001 - the other figures are wanted most when something is wrong
            _LOG.warning("outbox_unknown", error=error_name(error))
        await respond(send, 200, exposition(), content_type=CONTENT_TYPE_LATEST.encode())
