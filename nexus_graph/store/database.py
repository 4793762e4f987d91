"""Connections to the record, and the meaning of their failures."""

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import asyncpg

from nexus_graph import addresses
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable, UnusableAddress
from nexus_graph.secret_files import secret_of
from nexus_graph.statements import sql

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PoolConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Role = Literal["nexus_api", "nexus_relay", "nexus_import"]
Server = Literal["primary", "direct", "replica"]
"""`direct`: the primary without a pooler in between, for notices and session locks, which need a session of their
own."""

LOCK_TIMEOUT_SECONDS: Final = 5.0
"""Seconds that a statement waits for the write lock: longer than a chunk of an import usually holds it."""

_STATEMENTS_PREPARED: Final = 100
"""Statements that one connection keeps prepared."""

# asyncpg raises these when a connection breaks or the server does not answer in time: a TimeoutError is an OSError, and
# InternalClientError is neither that nor a PostgresError.
CONNECTION_LOST: Final = (
    OSError,
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncio.IncompleteReadError,
)

# SQLSTATE classes that speak of the values: not supported, too many rows, not valid, against a constraint, changed by a
# trigger, outside a view, past a limit, or refused by a trigger. Every other class speaks of the server.
_DATA_CLASSES: Final = frozenset({"0A", "21", "22", "23", "27", "44", "54", "P0"})

# The server is well and busy: a deadlock or lost race, a lock or object in use, a statement past its limit.
_BUSY: Final = ("40", "55006", "55P03", "57014")

_READ_ONLY: Final = "25006"

# Codes that a server gives to a new connection, or when it ends one; and codes of any session.
_TOLD_BY_CONNECTING: Final = ("08", "28", "3D", "53300", "57", _READ_ONLY)

_REASONS: Final = {
    _READ_ONLY: "is read-only",
    "08": "broke the connection",
    "28": "refuses the login",
    "3D": "has no such database",
    "42": "lacks something that we need, or denies it",
    "42501": "denies us a right that we need",
    "42P01": "lacks a table that we need; `nexus-graph migrate` makes them",
    "40": "has no time for this now",
    "55": "is in no state to do this",
    "55P03": "has no time for this now",
    "53": "has run out of connections, memory or disk",
    "53300": "has no connection left",
    "57": "was told to stop",
    "57014": "took too long",
    "57P03": "is starting or stopping",
    "58": "cannot read or write its files",
}
"""What an SQLSTATE, or else its class, says of the server."""

_NO_SUCH_ROLE: Final = "22023"
"""The refusal of a session that should act as a role that the server lacks."""

# TCP keep-alive at both ends notices a dead peer, which releases its locks: three probes, 5 s apart, after 10 s of
# silence. A connection is dead as well if sent data stays without acknowledgement for 20 s.
_KEEP_ALIVE: Final = (
    ("tcp_keepalives_idle", "TCP_KEEPIDLE", 10),
    ("tcp_keepalives_interval", "TCP_KEEPINTVL", 5),
    ("tcp_keepalives_count", "TCP_KEEPCNT", 3),
    ("tcp_user_timeout", "TCP_USER_TIMEOUT", 20_000),
)
"""PostgreSQL's setting, the socket's option, and the value of both."""


class UnfitLogin(Unavailable):
    """The login that a pooler uses does not bring the settings that our sessions must have."""


def is_datas_fault(error: BaseException) -> bool:
    """True if the statement failed for its values, in the driver or in the server."""
    return isinstance(error, asyncpg.DataError | UnicodeError) or _sqlstate(error)[:2] in _DATA_CLASSES


def is_servers_trouble(error: BaseException) -> bool:
    """True if the server is away: the same statement may succeed later, there or on its successor.

    The one rule of "away": a connection that broke or failed to open, a server that does not answer in time, and every
    SQLSTATE that does not speak of the values.
    """
    sqlstate = _sqlstate(error)
    return isinstance(error, CONNECTION_LOST) or (sqlstate != "" and sqlstate[:2] not in _DATA_CLASSES)


def is_lost(error: BaseException) -> bool:
    """True if the connection broke, or leads to a server that takes no writes any more: another connection may succeed.

    A server that does not answer in time is not a lost connection: the caller has waited long enough.
    """
    return (isinstance(error, CONNECTION_LOST) and not isinstance(error, TimeoutError)) or is_read_only(error)


def is_read_only(error: BaseException) -> bool:
    """True if the server takes no writes: a standby, one that a failover demoted, or one under maintenance."""
    return _sqlstate(error) == _READ_ONLY


def is_busy(error: BaseException) -> bool:
    """True if the server is well and had no time for this statement."""
    return _sqlstate(error).startswith(_BUSY)


def shows_in_statements(error: BaseException) -> bool:
    """True if statements can fail so on a sound connection: a full disk, a missing table or right."""
    sqlstate = _sqlstate(error)
    return sqlstate != "" and not sqlstate.startswith((*_TOLD_BY_CONNECTING, *_BUSY))


def _sqlstate(error: BaseException) -> str:
    """The SQLSTATE that the server gave; empty if it gave none."""
    sqlstate: str = getattr(error, "sqlstate", None) or ""
    return sqlstate


def reason(error: BaseException) -> str:
    """The fault, as a predicate of the server: "refuses the login (28P01)". It quotes no text of a driver."""
    if isinstance(error, TimeoutError):
        return "does not answer in time"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "is a standby, which takes no writes"
    sqlstate = _sqlstate(error)
    if not sqlstate:
        return f"does not answer ({_words(error)})"
    said = _REASONS.get(sqlstate) or _REASONS.get(sqlstate[:2], "is not itself")
    return f"{said} ({sqlstate})"


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        known = isinstance(error, socket.gaierror)  # its numbers are not errno's
        return (error.strerror if known else os.strerror(error.errno)) or type(error).__name__
    return type(error).__name__


def away(settings: Settings, server: Server, error: BaseException) -> Unavailable:
    """The error that tells a user which server is away, and why."""
    return Unavailable(f"PostgreSQL at {where(settings, server)} {reason(error)}")


async def connect_pool(settings: Settings, *, role: Role | None, size: int, server: Server = "primary") -> Pool:
    """A pool of `size` connections that act as `role` (None: as the login itself). Raises Unavailable, and UnfitLogin
    where a pooler keeps us from giving the session its settings and the login does not bring them.

    Every statement is bounded: lock_timeout < statement_timeout < the client's own timeout.
    """
    session = _session(settings, role)
    keep_alive = {name: str(value) for name, _, value in _KEEP_ALIVE}
    pooled = settings.pgbouncer and server != "direct"
    try:
        pool = await asyncpg.create_pool(
            url_of(settings, server),
            min_size=size,
            max_size=size,
            command_timeout=settings.statement_timeout_seconds + 1,
            server_settings={"application_name": role or "nexus"} | ({} if pooled else session | keep_alive),
            # In transaction mode the next statement may run in another session, which has none of the prepared names.
            statement_cache_size=0 if pooled else _STATEMENTS_PREPARED,
            max_inactive_connection_lifetime=0,
            max_queries=sys.maxsize,  # a new connection plans its statements again: a pause each minute under load
            reset=_nothing_to_reset,
            connect=partial(_connect_now, settings, server),
            **_connecting(settings, server),
        )
    except Exception as error:
        raise _unavailable(settings, server, error) from error
    if pooled:
        await _check_login(settings, server, pool, session)
    return pool


async def connect(settings: Settings, server: Server = "direct") -> Connection:
    """One connection that acts as the login itself. The caller closes it. Raises Unavailable."""
    try:
        connection: Connection = await asyncpg.connect(url_of(settings, server), **_connecting(settings, server))
    except Exception as error:
        raise _unavailable(settings, server, error) from error
    return connection


@asynccontextmanager
async def open_connection(settings: Settings, server: Server = "direct") -> AsyncIterator[Connection]:
    """`connect`, and close the connection: in order if the server answers within the time of a connection, else at
    once.
    """
    connection = await connect(settings, server)
    try:
        yield connection
    finally:
        with suppress(*CONNECTION_LOST):
            await connection.close(timeout=settings.connect_timeout_seconds)


@asynccontextmanager
async def open_pool(
    settings: Settings, *, role: Role | None, size: int, server: Server = "primary"
) -> AsyncIterator[Pool]:
    """`connect_pool`, and close the pool: in order if the server answers within the time of a connection, else at
    once.
    """
    pool = await connect_pool(settings, role=role, size=size, server=server)
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(settings.connect_timeout_seconds):
                await pool.close()
        except CONNECTION_LOST:
            pool.terminate()


def url_of(settings: Settings, server: Server) -> str:
    """Where the server is, and the login, as of now. There must be one: a replica is optional."""
    return secret_of(settings, _setting(settings, server))


def where(settings: Settings, server: Server) -> str:
    """The server's address and the variable that names it, for messages."""
    return addresses.where(settings, _setting(settings, server))


def _setting(
    settings: Settings, server: Server
) -> Literal["database_url", "database_direct_url", "database_replica_url"]:
    if server == "replica":
        return "database_replica_url"
    if server == "direct" and settings.database_direct_url is not None:
        return "database_direct_url"
    return "database_url"


async def _connect_now(settings: Settings, server: Server, _url: str, **given: Any) -> Connection:
    """A pool's new connection. The pool keeps the first URL; its password may have been rotated since."""
    connection: Connection = await asyncpg.connect(url_of(settings, server), **given)
    return connection


class _Watched(asyncpg.Connection):
    """A connection whose socket notices a server that vanished."""

    def __init__(self, protocol: Any, transport: asyncio.Transport, *rest: Any) -> None:
        """As asyncpg calls it."""
        super().__init__(protocol, transport, *rest)
        opened = transport.get_extra_info("socket")
        if opened is None or opened.family not in (socket.AF_INET, socket.AF_INET6):
            return
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for _, option, value in _KEEP_ALIVE:
            if hasattr(socket, option):  # some systems lack one
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _connecting(settings: Settings, server: Server) -> dict[str, Any]:
    """The arguments of every connection."""
    made: dict[str, Any] = {"timeout": settings.connect_timeout_seconds, "connection_class": _Watched}
    if server != "replica":
        # After a failover the address may still lead to the old primary, now a standby with older data.
        made["target_session_attrs"] = "primary"
    return made


def _unavailable(settings: Settings, server: Server, error: Exception) -> Exception:
    """The error for a connection that failed to open."""
    if is_servers_trouble(error) and (isinstance(error, ssl.SSLError) or not isinstance(error, ValueError)):
        return away(settings, server, error)
    place = where(settings, server)
    if _sqlstate(error) == _NO_SUCH_ROLE:
        return Unavailable(f"PostgreSQL at {place} does not know our roles: run `nexus-graph migrate`")
    if isinstance(error, ValueError | UnicodeError):
        return UnusableAddress(f"PostgreSQL cannot be found at {place}: that is no postgresql:// URL")
    return error


def _session(settings: Settings, role: Role | None) -> dict[str, str]:
    """The settings of each session, by pg_settings' names and units."""
    statement_ms = str(int(settings.statement_timeout_seconds * 1000))
    session = {
        "lock_timeout": str(int(LOCK_TIMEOUT_SECONDS * 1000)),
        "statement_timeout": statement_ms,
        "idle_in_transaction_session_timeout": statement_ms,
        "default_transaction_isolation": "read committed",
        # Each of our statements names its index. On new tables the statistics would choose a scan.
        "enable_seqscan": "off",
        "plan_cache_mode": "force_generic_plan",
        "jit": "off",
    }
    return session if role is None else {**session, "role": role}


async def _check_login(settings: Settings, server: Server, pool: Pool, session: dict[str, str]) -> None:
    """Raises UnfitLogin, and closes the pool, unless a session behind the pooler has these settings by itself."""
    try:
        found: dict[str, str] = {row[0]: row[1] for row in await pool.fetch(sql("session_settings"), list(session))}
    except Exception as error:
        pool.terminate()
        raise _unavailable(settings, server, error) from error
    unfit = [f"{name} is {found.get(name)}, not {value}" for name, value in session.items() if found.get(name) != value]
    if unfit:
        await pool.close()
        raise UnfitLogin(
            "behind pgbouncer the login brings the settings of its sessions (deploy/pgbouncer/login.sql), and this one "
            f"does not: {', '.join(unfit)}"
        )


async def _nothing_to_reset(_connection: Connection) -> None:
    """Our statements leave nothing behind in a session, and a reset would cost a round trip."""
