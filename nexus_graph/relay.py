"""The relay: keeps the graph in step with the record.

The relay reads due outbox rows, reads the state of their families, projects that state, and deletes exactly the rows
that it had read. A row is read before the state, so the state includes the row's change; a later change has a row of
its own.

One connection listens for notices, reads and deletes. The relay that holds the lease works; the others wait until the
lease has run out or the holder's connection is gone. The lease saves work, and safety does not rest on it: two active
relays do no harm, as the projection compares versions (docs/adr/0002) and each relay deletes exactly the rows that it
had read.

Failures: the relay waits for a server that is away and blames no row. Data that cannot be projected is isolated family
by family; the relay retries its rows later, then parks them, while other families go on.
"""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import Final, cast

import uvloop
from neo4j import AsyncDriver
from neo4j.exceptions import DriverError, Neo4jError
from prometheus_client import start_http_server

from nexus_graph import telemetry
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable, UnusableAddress
from nexus_graph.failures import say, why
from nexus_graph.gc_freeze import freeze_gc
from nexus_graph.graph import driver as graph
from nexus_graph.graph.extent import Watch
from nexus_graph.graph.projection import project, warm
from nexus_graph.graph.states import read_states
from nexus_graph.graph.verify import sample_drift
from nexus_graph.store import database, outbox
from nexus_graph.store.database import Connection, Pool
from nexus_graph.store.lease import Lease
from nexus_graph.store.outbox import RETRY_BASE_SECONDS
from nexus_graph.tasks import is_set_within, raise_if_cancelled

POLL_SECONDS: Final = 0.2
"""Seconds between looks at the outbox without a notice: a lost notice delays the graph by no more."""

BATCH_ROWS: Final = 150
"""Rows of the outbox in one batch while the relay is in step: a larger batch would delay its first family."""

BATCH_ROWS_MAX: Final = 1_200
"""A relay that is behind doubles its batches up to so many rows: larger ones gain nothing and hold more memory."""

PACE_SECONDS: Final = 0.02
"""Under load the relay begins no batch sooner than so many seconds after the last: fuller batches cost less."""

AWAY_MAX_SECONDS: Final = 5.0
"""The longest pause before the relay asks again for a server that was away."""

GAUGE_SECONDS: Final = 1.0
"""Seconds between counts of the outbox for the metrics: a count costs a query."""

DRIFT_CHECK_SECONDS: Final = 60.0
"""Seconds between samples of families, which keep the drift gauge honest at little cost."""

DRIFT_FIRST_CHECK_SECONDS: Final = 3.0
"""Seconds until the first sample of a relay that became the active one."""


_EXTENT_SECONDS: Final = 5.0
"""Between two looks of the active relay at what the graph lacks: without constraints, writes make duplicates."""
_LOG = telemetry.log("relay")


class Relay:
    """A relay. Several may run; the holder of the lease works, the others wait to take over."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lease = Lease()
        self._superseded = asyncio.Event()
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._failures_in_a_row = 0
        self._batch_rows = BATCH_ROWS
        self._gauged_at = float("-inf")
        self._cached: SharedFamilies | None = None

    async def work(self) -> None:
        """Work until `stop`; log each failure and retry. Raises UnusableAddress."""
        driver = graph.open_driver(self._settings)
        if self._settings.cache == "both":
            self._cached = SharedFamilies(self._settings)
        try:
            while not self._stopping.is_set():
                try:
                    await self._serve(driver)
                except UnusableAddress:
                    raise
                except Exception as error:  # noqa: BLE001 - a relay that ends leaves the graph behind
                    self._failures_in_a_row += 1
                    cause = _cause(error)
                    telemetry.RELAY_FAILURES.labels(cause).inc()
                    reason = why(error, self._settings)
                    _LOG.warning("relay_failed", cause=cause, error=telemetry.error_name(error), reason=reason)
                    await is_set_within(self._stopping, self._pause_seconds())
        finally:
            await driver.close()
            if self._cached is not None:
                await self._cached.close()

    def stop(self) -> None:
        """Finish the current batch, give the lease back, and let `work` return."""
        self._stopping.set()
        self._wake.set()

    async def _serve(self, driver: AsyncDriver) -> None:
        """Become the active relay and work off the outbox until `stop`. Raises what either driver raises."""
        # Connections for the work, the drift sample and the lease.
        pooled = database.open_pool(self._settings, role="nexus_relay", size=3, server="direct")
        async with pooled as pool, pool.acquire() as held:
            connection = cast("Connection", held)  # asyncpg's proxy has every method of a connection
            while not await self._lease.taken(connection):
                if await is_set_within(self._stopping, POLL_SECONDS):
                    return
            self._superseded.clear()
            async with self._lease.kept(pool, connection, self._superseded):
                await graph.ensure_constraints(driver)
                await warm(driver, self._settings)
                async with outbox.noticed(connection, self._wake), self._watching(pool, driver), self._active():
                    while not (self._stopping.is_set() or self._superseded.is_set()):
                        await self._look(connection, driver)
                        self._failures_in_a_row = 0

    @asynccontextmanager
    async def _active(self) -> AsyncIterator[None]:
        telemetry.RELAY_ACTIVE.set(1)
        _LOG.info("relay_active")
        try:
            yield
        finally:
            telemetry.RELAY_ACTIVE.set(0)

    async def _look(self, connection: Connection, driver: AsyncDriver) -> None:
        """Project the due rows, or wait until there may be more."""
        began = monotonic()
        self._wake.clear()
        batch = await outbox.read_due(connection, rows_max=self._batch_rows)
        if began - self._gauged_at >= GAUGE_SECONDS:
            await outbox.outbox_gauges(connection)
            self._gauged_at = began
        if not batch:
            await self._wait_for_rows()
            return
        await self._work_off(connection, driver, batch)
        if sum(len(family.due) for family in batch) >= self._batch_rows:
            # More rows wait. A batch of any size takes the same round trips, so a relay that is behind takes larger
            # batches.
            self._batch_rows = min(2 * self._batch_rows, BATCH_ROWS_MAX)
            return
        self._batch_rows = BATCH_ROWS
        await is_set_within(self._stopping, began + PACE_SECONDS - monotonic())

    async def _wait_for_rows(self) -> None:
        await is_set_within(self._wake, POLL_SECONDS)

    async def _work_off(self, connection: Connection, driver: AsyncDriver, batch: list[outbox.Due]) -> None:
        """Project the families. If the graph refuses their data, halve the batch until the family is found, and retry
        that family later.
        """
        try:
            await self._project(connection, driver, batch)
        except Exception as error:
            if not (graph.is_datas_fault(error) or database.is_datas_fault(error)):
                raise
            telemetry.RELAY_FAILURES.labels("data").inc()
            if len(batch) == 1:
                await self._set_back(connection, batch[0], error)
                return
            _LOG.warning("batch_rejected", families=len(batch), error=telemetry.error_name(error))
        else:
            return
        half = len(batch) // 2
        await self._work_off(connection, driver, batch[:half])
        if not self._stopping.is_set():
            await self._work_off(connection, driver, batch[half:])

    async def _project(self, connection: Connection, driver: AsyncDriver, batch: list[outbox.Due]) -> None:
        states = await read_states(connection, [family.family_id for family in batch])
        await project(driver, states, self._settings)
        if self._cached is not None:
            # The writer has published its own changes, if it lived on; no writer publishes a soft deletion.
            for state in states:
                self._cached.forget(state["id"], state["version"])
        await self._delete_rows(connection, batch)

    async def _delete_rows(self, connection: Connection, batch: list[outbox.Due]) -> None:
        for waited_seconds in await outbox.done(connection, batch):
            telemetry.RELAY_LAG.observe(waited_seconds)
        telemetry.RELAY_PROJECTED.inc(len(batch))

    async def _set_back(self, connection: Connection, family: outbox.Due, error: Exception) -> None:
        name = telemetry.error_name(error)
        parked = await outbox.failed(connection, family, error=name)
        _LOG.warning("family_parked" if parked else "family_set_back", family_id=family.family_id, error=name)

    def _pause_seconds(self) -> float:
        doubled = RETRY_BASE_SECONDS * 2.0 ** min(self._failures_in_a_row - 1, 16)
        return min(doubled, AWAY_MAX_SECONDS) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    @asynccontextmanager
    async def _watching(self, pool: Pool, driver: AsyncDriver) -> AsyncIterator[None]:
        watch = Watch(pool, driver)
        sample = partial(self._sample_drift, pool, driver)
        watching = {
            asyncio.create_task(_repeat(watch.look, _EXTENT_SECONDS, first=_EXTENT_SECONDS)),
            asyncio.create_task(_repeat(sample, DRIFT_CHECK_SECONDS, first=DRIFT_FIRST_CHECK_SECONDS)),
        }
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)
            watch.close()

    async def _sample_drift(self, pool: Pool, driver: AsyncDriver) -> None:
        try:
            drifting = await sample_drift(pool, driver)
        except Exception as error:  # noqa: BLE001 - the relay's work goes on; the next sample may do better
            _LOG.warning("drift_unknown", error=telemetry.error_name(error))
            return
        telemetry.DRIFT.set(len(drifting))
        if drifting:
            _LOG.warning("drift_found", families=drifting)


async def _repeat(look: Callable[[], Awaitable[None]], seconds: float, *, first: float) -> None:
    await asyncio.sleep(first)
    while True:
        await look()
        raise_if_cancelled()
        await asyncio.sleep(seconds)


def run(settings: Settings) -> int:
    """Relay until SIGINT or SIGTERM. Returns the exit code: 0, or 1 if the metrics port cannot be opened."""
    telemetry.configure_logging(settings.log_level)
    telemetry.count_together()
    if settings.relay_metrics_port is not None:
        try:
            start_http_server(settings.relay_metrics_port, addr=settings.relay_metrics_host)
        except OSError as error:
            where = f"{settings.relay_metrics_host} port {settings.relay_metrics_port}"
            say(f"cannot show metrics on {where}: {error.strerror}")
            return 1
    freeze_gc()
    uvloop.run(_work_until_signalled(settings))
    return 0


async def _work_until_signalled(settings: Settings) -> None:
    relay = Relay(settings)
    call_at_signals(relay.stop)
    await relay.work()
    _LOG.info("relay_stopped")


def call_at_signals(stop: Callable[[], None]) -> None:
    """Call `stop` in the running loop at SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # a loop on Windows has no handlers of signals
            signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(stop))


def _cause(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, Neo4jError | DriverError) and graph.is_graphs_trouble(error):
        return "graph"
    if database.is_servers_trouble(error) or isinstance(error, Unavailable):
        return "record"
    return "bug"
