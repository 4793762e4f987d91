"""Why a process cannot go on: one sentence that names the server and the variable, and no driver's text."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from neo4j.exceptions import AuthError, ConfigurationError, DriverError, Neo4jError
from redis.exceptions import AuthenticationError, RedisError

from nexus_graph import addresses, telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import NexusError
from nexus_graph.store import database

CANNOT_GO_ON: Final = 1
"""The exit code of a process that cannot go on."""

_SECURITY: Final = ".Security."
_MORE: Final = "run `nexus-graph doctor` to check all servers"


def without_traceback(settings: Settings, command: Callable[[Settings], int | Coroutine[Any, Any, int]]) -> int:
    """The exit code of the command, a function or a coroutine function. If the command cannot go on, the reason goes to
    stderr, in one line.
    """
    telemetry.configure_logging(settings.log_level)
    try:
        running = command(settings)
        return running if isinstance(running, int) else asyncio.run(running)
    except BrokenPipeError:
        raise  # the reader of the output has closed the pipe
    except Exception as error:  # noqa: BLE001 - every error becomes one sentence for the user
        say(why(error, settings))
        return CANNOT_GO_ON


def say(reason: str) -> None:
    """Write the sentence to stderr."""
    sys.stderr.write(f"nexus-graph: {reason}\n")


def why(error: BaseException, settings: Settings | None = None) -> str:
    """Why a command cannot go on, and what to do next, without any text of a driver."""
    if isinstance(error, BaseExceptionGroup):
        return why(error.exceptions[0], settings)
    if isinstance(error, NexusError):
        return error.message
    if isinstance(error, TimeoutError):
        return f"a server does not answer in time; {_MORE}"
    fault = _server_fault(error)
    if fault is not None:
        name, server, reason = fault
        place = "" if settings is None else f" at {addresses.where(settings, server)}"
        return f"{name}{place} {reason}; {_MORE}"
    if isinstance(error, OSError):
        return f"cannot go on: {os.strerror(error.errno) if error.errno else _name(error)}"
    return (
        f"an error in nexus-graph itself ({telemetry.error_name(error)} at {telemetry.place(error)}): please report it"
    )


def _server_fault(error: BaseException) -> tuple[str, addresses.Server, str] | None:
    """The name, setting and fault of the server that caused the error; None if no server did."""
    if isinstance(error, Neo4jError | DriverError):
        return "Neo4j", "neo4j_uri", _graphs_reason(error)
    if isinstance(error, RedisError):
        return "Redis", "redis_url", redis_reason(error)
    ours = isinstance(error, OSError) and not isinstance(error, ConnectionError | socket.gaierror)
    if database.is_servers_trouble(error) and not ours:
        return "PostgreSQL", "database_url", database.reason(error)
    return None


def redis_reason(error: BaseException) -> str:
    """The fault of Redis, as a predicate."""
    return "refuses the login" if isinstance(error, AuthenticationError) else f"does not answer ({_name(error)})"


def _graphs_reason(error: BaseException) -> str:
    if isinstance(error, AuthError) or (isinstance(error, Neo4jError) and _SECURITY in (error.code or "")):
        return "refuses the login of NEO4J_USER and NEO4J_PASSWORD"
    if isinstance(error, ConfigurationError):
        return "cannot be found: that is no bolt:// or neo4j:// URI"
    if isinstance(error, Neo4jError):
        return f"refuses a statement ({error.code})"
    return f"does not answer ({_name(error)})"


def _name(error: BaseException) -> str:
    return type(error).__name__
