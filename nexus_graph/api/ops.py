"""The operators' routes: health, liveness, readiness and metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from functools import partial
from time import monotonic
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType
from prometheus_client import CONTENT_TYPE_LATEST

from nexus_graph import __version__
from nexus_graph.api.http.answer import Answer, encode
from nexus_graph.api.http.request import Post
from nexus_graph.api.usage import Usage, UsageMeter
from nexus_graph.door.permissions import Permission
from nexus_graph.store.migrate import MigrationError, pending
from nexus_graph.store.record import HEALTH_SECONDS, WELL, Condition, Record
from nexus_graph.telemetry import error_name, exposition, log

REMEMBERED_SECONDS: Final = 0.5
"""Seconds for which /health repeats its answer: many load balancers cost the servers no more than one."""

_LOG = log("health")

Check = Callable[[], Awaitable[Condition | bool | None]]
"""The check of a server: a Condition is reported as it is; False and an error mean down; None and True mean well."""

_Checked = tuple[Condition, float]
"""What a check found, and the seconds that it took."""

RECORD: Final = "postgres"
MIGRATIONS: Final = "migrations"
OUTBOX: Final = "outbox"

Status = Literal["ok", "degraded", "down"]

_MEANS: Final = {
    RECORD: "requests that need what its reason names are refused",
    "neo4j": "families are read from the record",
    "redis": "rate limits are counted by each process; the shared cache and documents sent by hash are away",
    "relay": "the graph is behind the record, which answers those who ask for more",
    "replica": "lists are read from the primary",
}
"""What callers notice while a server is not well."""

_NEVER: Final = float("-inf")
_SLACK: Final = 1.25
"""A check bounds its own questions by the time of a health check; this is its time to report which failed."""

_LEFT_ALONE_SECONDS: Final = 10.0
"""A check that hangs for longer is cancelled, and another begins: at most one a server is under way."""


class Probe:
    """One check. A caller gets an answer in time: a check that takes longer goes on without the caller."""

    def __init__(self, name: str, check: Check) -> None:
        self._name = name
        self._check = check
        self._timeout_seconds = _SLACK * HEALTH_SECONDS
        self._condition = WELL
        self.seconds = 0.0
        """How long the last check took, or has taken so far."""
        self._asked_at = _NEVER
        self._checking: asyncio.Task[_Checked] | None = None
        self._began_at = _NEVER

    async def condition(self) -> Condition:
        """The server's condition, from now or a moment ago."""
        if monotonic() - self._asked_at <= REMEMBERED_SECONDS:
            return self._condition
        checking = self._under_way()
        await asyncio.wait({checking}, timeout=self._timeout_seconds)
        if checking.done() and not checking.cancelled():
            condition, self.seconds = checking.result()
            self._note(condition)
            self._asked_at = monotonic()
        else:
            self.seconds = monotonic() - self._began_at
            self._note(Condition("down", f"does not answer within {self._timeout_seconds:g} s"))
        return self._condition

    async def close(self) -> None:
        """End the check that is under way."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait({self._checking}, timeout=self._timeout_seconds)

    def _under_way(self) -> "asyncio.Task[_Checked]":
        hangs = monotonic() - self._began_at > _LEFT_ALONE_SECONDS
        if self._checking is None or self._checking.done() or hangs:
            if self._checking is not None:
                self._checking.cancel()
            # The check belongs to no request: its log lines, like the one below, carry no correlation id.
            self._checking = asyncio.get_running_loop().create_task(self._checked(), context=Context())
            self._began_at = monotonic()
        return self._checking

    async def _checked(self) -> _Checked:
        began = monotonic()
        condition = await self._condition_now()
        return condition, monotonic() - began

    async def _condition_now(self) -> Condition:
        try:
            found = await self._check()
        except Exception as error:  # noqa: BLE001 - any way of not answering is not answering
            return Condition("down", f"does not answer ({error_name(error)})")
        if isinstance(found, Condition):
            return found
        return Condition("down") if found is False else WELL

    def _note(self, condition: Condition) -> None:
        if condition.status != self._condition.status:
            changed = partial(_LOG.warning, "server_condition", server=self._name)
            Context().run(changed, status=condition.status, reason=condition.reason)
        self._condition = condition


class ServerReport(msgspec.Struct, rename="camel"):
    """A server as /health reports it."""

    status: Status
    response_seconds: float
    """How long the server took to answer the check, or has taken so far."""
    reason: str | UnsetType = UNSET


class HealthReport(msgspec.Struct, rename="camel"):
    """The answer of /health. All but the status is for operators."""

    status: Status
    version: str | UnsetType = UNSET
    uptime_seconds: float | UnsetType = UNSET
    process: Usage | UnsetType = UNSET
    checks: dict[str, ServerReport] | UnsetType = UNSET
    """By server."""
    degradation: list[str] | UnsetType = UNSET
    """What callers notice of servers that are not well."""


class Health:
    """The condition of the servers behind this process. Every answer comes in time, even if servers hang."""

    def __init__(self, checks: dict[str, Check]) -> None:
        """`checks` by server; without the server named RECORD the service is down."""
        self._probes = {name: Probe(name, check) for name, check in checks.items()}
        self.reported = [name for name in checks if name not in (MIGRATIONS, OUTBOX)]
        """The servers that /health reports."""
        self.since = monotonic()
        self.usage = UsageMeter()

    def seconds(self, name: str) -> float:
        """How long the server's last check took."""
        return self._probes[name].seconds

    async def conditions(self, names: Iterable[str]) -> dict[str, Condition]:
        """The condition of each server, all checked at once."""
        named = list(names)
        found = await asyncio.gather(*(self._probes[name].condition() for name in named))
        return dict(zip(named, found, strict=True))

    async def close(self) -> None:
        """End the checks that are under way."""
        await asyncio.gather(*(probe.close() for probe in self._probes.values()))


async def health(post: Post) -> Answer:
    """GET /health: ok; degraded while Neo4j, Redis, the replica or a part of PostgreSQL is away; 503 and down while
    identify is not answered. Where the door asks for credentials, operators see it in detail.
    """
    servers: Health = post.state["health"]
    found = await servers.conditions(servers.reported)
    all_well = all(condition.status == "ok" for condition in found.values())
    status: Status = "down" if found[RECORD].status == "down" else "ok" if all_well else "degraded"
    report = HealthReport(status)
    if post.visit.principal.may(Permission.OPERATE):
        report.version = __version__
        report.uptime_seconds = round(monotonic() - servers.since, 1)
        report.process = servers.usage.read()
        report.checks = {
            name: ServerReport(condition.status, round(servers.seconds(name), 4), condition.reason or UNSET)
            for name, condition in found.items()
        }
        report.degradation = [_MEANS[name] for name, condition in found.items() if condition.status != "ok"]
    return Answer(503 if status == "down" else 200, encode(report))


async def livez(post: Post) -> Answer:  # noqa: ARG001 - the shape of an endpoint
    """GET /livez: this process answers; it asks no server."""
    return Answer(200, encode({"status": "ok"}))


async def readyz(post: Post) -> Answer:
    """GET /readyz: PostgreSQL answers identify, takes writes, has this release's schema, and this process is not
    stopping; else 503, so that no traffic comes here.
    """
    servers: Health = post.state["health"]
    found = await servers.conditions((RECORD, MIGRATIONS))
    if post.state["leaving"].is_set():
        found["process"] = Condition("down", "this process was told to stop")
    ready = all(condition.status != "down" for condition in found.values())
    answer: dict[str, Any] = {"status": "ok" if ready else "down"}
    if post.visit.principal.may(Permission.OPERATE):
        answer["checks"] = _shown(found)
    return Answer(200 if ready else 503, encode(answer))


async def metrics(post: Post) -> Answer:
    """GET /metrics, for Prometheus. Each request reads the outbox; if the record is away, the last figures stay."""
    servers: Health = post.state["health"]
    await servers.conditions((OUTBOX,))
    return Answer(200, exposition(), CONTENT_TYPE_LATEST.encode())


class Migrated:
    """Down until every migration of this release is applied, then well for good. Raises what the record raises."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._landed = False

    async def __call__(self) -> Condition:
        if not self._landed:
            try:
                missing = await pending(self._record)
            except MigrationError as error:
                return Condition("down", str(error))
            if missing:
                return Condition("down", f"{len(missing)} not applied: run `nexus-graph migrate`")
            self._landed = True
        return WELL


def _shown(found: dict[str, Condition]) -> dict[str, dict[str, str]]:
    return {
        name: {"status": condition.status} | ({} if condition.reason is None else {"reason": condition.reason})
        for name, condition in found.items()
    }
