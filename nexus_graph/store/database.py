"""Connections to the record, and what their failures mean."""

import asyncio
import sys
from typing import Final, Literal, TypeAlias

import asyncpg

from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.statements import sql

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PoolConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Role = Literal["nexus_api", "nexus_relay", "nexus_import"]
Server = Literal["primary", "direct", "replica"]
"""`direct`: the primary with no pooler between, for whatever lives as long as a session: notices, session locks."""

_STATEMENTS_PREPARED: Final = 100
"""Statements that one connection keeps prepared."""

# asyncpg raises these when a connection breaks, and InternalClientError is neither a PostgresError nor an OSError.
CONNECTION_LOST: Final = (
    OSError,
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)

# SQLSTATE classes that are the server's trouble, not the data's: rollback, resources, intervention, system, internal.
_SERVER_CLASSES: Final = frozenset({"08", "40", "53", "55", "57", "58", "XX"})

# Those that are the data's: not supported, not valid, against a constraint, past a limit, or refused by a trigger.
_DATA_CLASSES: Final = frozenset({"0A", "22", "23", "54", "P0"})


class UnfitLogin(Unavailable):
    """The login that a pooler uses does not bring the settings that our sessions must have."""


def is_servers_trouble(error: BaseException) -> bool:
    """True if the same statement may succeed later; False if its data is at fault."""
    if isinstance(error, (*CONNECTION_LOST, TimeoutError, asyncio.IncompleteReadError)):
        return True
    sqlstate: str | None = getattr(error, "sqlstate", None)
    return sqlstate is not None and sqlstate[:2] in _SERVER_CLASSES


def is_datas_fault(error: BaseException) -> bool:
    """True if the statement failed for the values it was given, on their way to the server or there."""
    sqlstate: str | None = getattr(error, "sqlstate", None)
    return isinstance(error, asyncpg.DataError | UnicodeError) or (
        sqlstate is not None and sqlstate[:2] in _DATA_CLASSES
    )


async def connect_pool(settings: Settings, *, role: Role | None, size: int, server: Server = "primary") -> Pool:
    """A pool of `size` connections that act as `role` (None: as the login itself). Raises Unavailable, and UnfitLogin
    where a pooler keeps us from giving the session its settings and the login does not bring them.

    Every statement is bounded: lock_timeout < statement_timeout < the client's own timeout.
    """
    session = _session(settings, role)
    pooled = settings.pgbouncer and server != "direct"
    try:
        pool = await asyncpg.create_pool(
            url_of(settings, server),
            min_size=size,
            max_size=size,
            timeout=settings.connect_timeout_seconds,
            command_timeout=settings.statement_timeout_seconds + 1,
            server_settings={"application_name": role or "nexus"} | ({} if pooled else session),
            # In transaction mode the next statement may run in another session, which knows none of the last's names.
            statement_cache_size=0 if pooled else _STATEMENTS_PREPARED,
            max_inactive_connection_lifetime=0,
            max_queries=sys.maxsize,  # one made anew has to plan its statements again: a pause a minute under load
            reset=_nothing_to_reset,
        )
    except (*CONNECTION_LOST, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(f"PostgreSQL does not answer ({type(error).__name__})") from error
    if pooled:
        await _check_login(pool, session)
    return pool


class KeptConnections:
    """A pool's connections, kept between statements: to take one and give it back is a third of what a statement costs
    the client. Whoever else asks the pool meanwhile may wait for ever; `close` gives it back what it had.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._free: asyncio.LifoQueue[PoolConnection | None] = asyncio.LifoQueue()
        for _ in range(pool.get_max_size()):
            self._free.put_nowait(None)  # one that was not taken yet

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The statement's rows. It waits while all connections are in use. Raises what the pool's `fetch` raises."""
        connection = await self._free.get()
        try:
            if connection is not None and _is_lost(connection):
                await self._pool.release(connection)
                connection = None
            if connection is None:
                connection = await self._pool.acquire()
            return await connection.fetch(statement, *arguments)
        except BaseException:
            # Its pool knows what a connection needs after an error: to be ended, to be waited for, or nothing.
            if connection is not None:
                await self._pool.release(connection)
                connection = None
            raise
        finally:
            self._free.put_nowait(connection)

    async def close(self) -> None:
        """Give them back. No statement may be under way."""
        while not self._free.empty():
            connection = self._free.get_nowait()
            if connection is not None:
                await self._pool.release(connection)


def url_of(settings: Settings, server: Server) -> str:
    """Where the server is. There must be one: a replica is optional."""
    url = settings.database_url
    if server == "replica":
        assert settings.database_replica_url is not None
        url = settings.database_replica_url
    elif server == "direct" and settings.database_direct_url is not None:
        url = settings.database_direct_url
    return url.get_secret_value()


def _session(settings: Settings, role: Role | None) -> dict[str, str]:
    """What each session is given, by the names that pg_settings has, in its units."""
    statement_ms = str(int(settings.statement_timeout_seconds * 1000))
    session = {
        "lock_timeout": str(int(settings.lock_timeout_seconds * 1000)),
        "statement_timeout": statement_ms,
        "idle_in_transaction_session_timeout": statement_ms,
        "default_transaction_isolation": "read committed",
        # Each statement of ours is served by an index it names. On fresh tables the statistics would say otherwise.
        "enable_seqscan": "off",
        "plan_cache_mode": "force_generic_plan",
        "jit": "off",
    }
    return session if role is None else {**session, "role": role}


async def _check_login(pool: Pool, session: dict[str, str]) -> None:
    """Raises UnfitLogin unless a session behind the pooler has these settings of itself; the pool is closed then."""
    try:
        found: dict[str, str] = {row[0]: row[1] for row in await pool.fetch(sql("session_settings"), list(session))}
    except (*CONNECTION_LOST, TimeoutError, asyncpg.PostgresError) as error:
        pool.terminate()
        raise Unavailable(f"PostgreSQL does not answer ({type(error).__name__})") from error
    unfit = [f"{name} is {found.get(name)}, not {value}" for name, value in session.items() if found.get(name) != value]
    if unfit:
        await pool.close()
        raise UnfitLogin(
            "behind pgbouncer the login brings the settings of its sessions (deploy/pgbouncer/login.sql), and this one "
            f"does not: {', '.join(unfit)}"
        )


def _is_lost(connection: PoolConnection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True  # its pool has taken it back already, as it does where a connection breaks


async def _nothing_to_reset(_connection: Connection) -> None:
    """No statement of ours leaves anything behind in its session; asking the server to clear it costs a round trip."""
