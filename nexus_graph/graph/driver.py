"""Connections to the graph, and what their failures mean."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypeVar

import neo4j
from neo4j import AsyncDriver, AsyncGraphDatabase, AsyncManagedTransaction, Auth, Query, unit_of_work
from neo4j.auth_management import AsyncAuthManager
from neo4j.exceptions import DriverError, Neo4jError

from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.secret_files import secret_of
from nexus_graph.statements import cypher

_INDEXES_WAIT_SECONDS: Final = 60
"""Seconds that a process waits for the graph's indexes to answer when it starts."""

_RETRY_SECONDS: Final = 5.0
"""Seconds for which a write that lost a race or a deadlock is repeated."""

_RETRY_BASE_SECONDS: Final = 0.02
"""Seconds before the first repetition; each further pause is twice as long."""

PASSWORD_SECONDS: Final = 1.0
"""Seconds between two readings of the file that holds the password."""


# The server keeps a plan while the graph grows: the statement names its indexes, and a new plan would stop every reader
# for half a second.
_PLANNED_ONCE: Final = "CYPHER replan=skip\n"

Answer = TypeVar("Answer")

# Two transactions raced: one deleted a node that the other was tying. A retry succeeds.
_RACES: Final = frozenset({
    "Neo.ClientError.Statement.EntityNotFound",
    "Neo.ClientError.Schema.ConstraintValidationFailed",
})  # fmt: skip
_STATEMENT_CODES: Final = ("Neo.ClientError.Statement.", "Neo.ClientError.Schema.")
_DUPLICATES: Final = "Neo.DatabaseError.Schema.ConstraintCreationFailed"
# One family needs more than one transaction may use. Other families are not affected.
_TOO_MUCH: Final = frozenset({
    "Neo.TransientError.General.MemoryPoolOutOfMemoryError",
    "Neo.TransientError.General.TransactionMemoryLimit",
    "Neo.ClientError.Transaction.TransactionTimedOut",
    "Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration",
})  # fmt: skip
# The server cannot parse our statement: a mistake of ours, independent of the values.
_OUR_MISTAKES: Final = frozenset({
    "Neo.ClientError.Statement.SyntaxError",
    "Neo.ClientError.Statement.SemanticError",
    "Neo.ClientError.Statement.ParameterMissing",
    "Neo.ClientError.Statement.UnsupportedOperationError",
})  # fmt: skip


def open_driver(settings: Settings, *, connect_seconds: float | None = None) -> AsyncDriver:
    """A driver for the server of the settings. It connects at its first use; the caller closes it.

    `connect_seconds`: the limit for one connection to be ready; None: the limit of a read.
    """
    return AsyncGraphDatabase.driver(
        settings.neo4j_uri,
        auth=_login(settings),
        max_connection_pool_size=settings.graph_connections,
        connection_acquisition_timeout=connect_seconds or settings.graph_timeout_seconds,
        connection_timeout=settings.connect_timeout_seconds,
        max_transaction_retry_time=0,  # `write` repeats sooner than after the driver's second
        notifications_min_severity=neo4j.NotificationMinimumSeverity.OFF,
        telemetry_disabled=True,
    )


class _Login(AsyncAuthManager):
    """The login whose password stands in a file. The driver logs open connections in again when it changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._auth = self._now()
        self._due = monotonic() + PASSWORD_SECONDS

    async def get_auth(self) -> Auth:
        """Called by the driver whenever it opens or takes a connection."""
        now = monotonic()
        if now >= self._due:
            self._due = now + PASSWORD_SECONDS
            self._auth = self._now()
        return self._auth

    async def handle_security_exception(self, auth: Any, error: Neo4jError) -> bool:  # noqa: ARG002 - the driver's
        """Called by the driver when a login was refused; False: nothing to try again at once."""
        return False

    def _now(self) -> Auth:
        return neo4j.basic_auth(self._settings.neo4j_user, secret_of(self._settings, "neo4j_password"))


def _login(settings: Settings) -> Auth | AsyncAuthManager:
    if settings.neo4j_password_file is not None:
        return _Login(settings)
    return neo4j.basic_auth(settings.neo4j_user, settings.neo4j_password.get_secret_value())


async def connect(driver: AsyncDriver) -> None:
    """Open one connection and check that it answers, within the driver's limit. Raises what the driver raises.

    A cancellation waits until the connection is open or has failed: a driver that is interrupted leaks its socket.
    """
    connecting = asyncio.ensure_future(driver.verify_connectivity())
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        with suppress(Exception):
            await connecting
        raise


async def ensure_constraints(driver: AsyncDriver) -> None:
    """Make the constraints and indexes that every statement relies on, and wait until they answer. Idempotent.

    Raises what the driver raises; Unavailable if the graph holds duplicates, as only a rebuild helps then.
    """
    for statement in cypher("constraints").split(";\n"):
        if statement.strip():
            try:
                await driver.execute_query(statement)
            except Neo4jError as error:
                if error.code != _DUPLICATES:
                    raise
                raise Unavailable("the graph holds duplicates; run `nexus-graph rebuild-graph`") from error
    await driver.execute_query(cypher("await_indexes"), seconds=_INDEXES_WAIT_SECONDS)


async def write(
    driver: AsyncDriver, settings: Settings, work: Callable[[AsyncManagedTransaction], Awaitable[Answer]]
) -> Answer:
    """Run `work` in one transaction, commit, return its result. A transaction that lost a race or a deadlock is retried
    for a bounded time.

    Raises what the driver raises; then the graph holds nothing of the transaction, or the connection broke during the
    commit.
    """
    timed = unit_of_work(timeout=settings.graph_write_timeout_seconds)(work)
    # The server's own limit is the shorter, as its error names the slow statement; ours is for a server that hangs.
    silence_seconds = settings.graph_write_timeout_seconds + settings.connect_timeout_seconds
    wait_seconds = _RETRY_BASE_SECONDS
    deadline = monotonic() + _RETRY_SECONDS
    while True:
        try:
            async with asyncio.timeout(silence_seconds), driver.session() as session:
                return await session.execute_write(timed)
        except Neo4jError as error:
            repeatable = error.code in _RACES or (error.code or "").startswith("Neo.TransientError.Transaction.")
            if not repeatable or monotonic() + wait_seconds > deadline:
                raise
        await asyncio.sleep(wait_seconds * random.random())  # noqa: S311 - jitter
        wait_seconds *= 2


def planned_once(name: str, parameters: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """The statement `cypher/<name>.cypher` and its parameters, in the form that one plan serves.

    All parameters are one map, `$given`: for a list as a parameter of its own, the server makes a plan for each order
    of magnitude of its length.
    """
    return _PLANNED_ONCE + cypher(name), {"given": parameters}


async def run(transaction: AsyncManagedTransaction, name: str, /, **parameters: object) -> Any:
    """The one value that `cypher/<name>.cypher` returns, None if it returns none."""
    record = await (await transaction.run(*planned_once(name, parameters))).single()
    return None if record is None else record[0]


async def ask(driver: AsyncDriver, name: str, parameters: dict[str, Any], *, timeout_seconds: float) -> list[Any]:
    """The one record that the read `cypher/<name>.cypher` returns. Statements collect their rows into one record, as
    each record costs the driver more than its content. Raises what the driver raises.
    """
    text, given = planned_once(name, parameters)
    async with driver.session(default_access_mode=neo4j.READ_ACCESS, fetch_size=-1) as session:
        result = await session.run(Query(text, timeout=timeout_seconds), given)
        record = await result.single(strict=True)
    return list(record.values())


def is_too_much(error: BaseException) -> bool:
    """True if the statement needed more time or memory than one transaction may take."""
    return isinstance(error, Neo4jError) and error.code in _TOO_MUCH


def is_graphs_trouble(error: BaseException) -> bool:
    """True if the graph is away, busy or misconfigured: the same statement may succeed later."""
    if isinstance(error, Neo4jError):
        return not is_datas_fault(error) and error.code not in _OUR_MISTAKES
    return isinstance(error, DriverError | OSError | TimeoutError)


def is_datas_fault(error: BaseException) -> bool:
    """True if the graph refused this statement for its values, or for the number of them."""
    if not isinstance(error, Neo4jError):
        return isinstance(error, ValueError | TypeError | OverflowError)  # what the driver cannot put on the wire
    code = error.code or ""
    return code in _TOO_MUCH or (code.startswith(_STATEMENT_CODES) and code not in _OUR_MISTAKES)
