"""Connections to the record, and what their failures mean."""

import asyncio
from typing import Final, Literal, TypeAlias

import asyncpg

from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Role = Literal["nexus_api", "nexus_relay", "nexus_import"]

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


async def connect_pool(settings: Settings, *, role: Role | None, size: int) -> Pool:
    """A pool of `size` connections that act as `role` (None: as the login itself). Raises Unavailable.

    Every statement is bounded: lock_timeout < statement_timeout < the client's own timeout.
    """
    statement_ms = int(settings.statement_timeout_seconds * 1000)
    server_settings = {
        "application_name": role or "nexus",
        "lock_timeout": str(int(settings.lock_timeout_seconds * 1000)),
        "statement_timeout": str(statement_ms),
        "idle_in_transaction_session_timeout": str(statement_ms),
        "default_transaction_isolation": "read committed",
        # Each statement of ours is served by an index it names. On fresh tables the statistics would say otherwise.
        "enable_seqscan": "off",
        "plan_cache_mode": "force_generic_plan",
        "jit": "off",
    }
    if role is not None:
        server_settings["role"] = role
    try:
        return await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=size,
            max_size=size,
            timeout=settings.connect_timeout_seconds,
            command_timeout=settings.statement_timeout_seconds + 1,
            server_settings=server_settings,
            max_inactive_connection_lifetime=0,
            reset=_nothing_to_reset,
        )
    except (*CONNECTION_LOST, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(f"PostgreSQL does not answer ({type(error).__name__})") from error


async def _nothing_to_reset(_connection: Connection) -> None:
    """No statement of ours leaves anything behind in its session; asking the server to clear it costs a round trip."""
