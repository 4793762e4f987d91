"""Does a server answer? Each probe has a timeout, returns a reason, and names no password."""

import asyncio
import urllib.error
import urllib.request
from dataclasses import dataclass

PROBE_TIMEOUT_SECONDS = 2.0
# urllib would send even loopback requests through a proxy that the environment names.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    """The result of a probe; `reason` says why the server did not answer, or what is wrong with its answer."""

    ok: bool
    reason: str = ""
    refused_credentials: bool = False


async def http(url: str, *, timeout_seconds: float = PROBE_TIMEOUT_SECONDS) -> Answer:
    """Request a page; only status 200 is an answer."""
    return await asyncio.to_thread(_http, url, timeout_seconds)


def _http(url: str, timeout_seconds: float) -> Answer:
    request = urllib.request.Request(url, headers={"Accept": "*/*"})  # noqa: S310 - our own http URLs
    try:
        with _direct.open(request, timeout=timeout_seconds) as response:
            response.read()
            return Answer(ok=response.status == 200, reason=f"HTTP {response.status}")
    except urllib.error.HTTPError as error:
        error.close()
        return Answer(ok=False, reason=f"HTTP {error.code}")
    except OSError as error:
        return Answer(ok=False, reason=_words(error))


async def postgres(url: str, *, timeout_seconds: float = PROBE_TIMEOUT_SECONDS) -> Answer:
    """Connect and SELECT 1."""
    import asyncpg

    try:
        async with asyncio.timeout(timeout_seconds):
            connection = await asyncpg.connect(url, timeout=timeout_seconds)
            try:
                await connection.fetchval("SELECT 1")
            finally:
                await connection.close(timeout=timeout_seconds)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        return Answer(ok=False, reason=_words(error), refused_credentials=True)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Answer(ok=False, reason=_words(error))
    return Answer(ok=True)


async def valkey(url: str, *, timeout_seconds: float = PROBE_TIMEOUT_SECONDS) -> Answer:
    """PING."""
    import redis.asyncio as redis

    client = redis.from_url(url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds)
    try:
        async with asyncio.timeout(timeout_seconds):
            await client.ping()
    except redis.AuthenticationError as error:
        return Answer(ok=False, reason=_words(error), refused_credentials=True)
    except (OSError, redis.RedisError) as error:
        return Answer(ok=False, reason=_words(error))
    finally:
        await client.aclose()
    return Answer(ok=True)


async def neo4j(uri: str, user: str, password: str, *, timeout_seconds: float = PROBE_TIMEOUT_SECONDS) -> Answer:
    """Connect over Bolt and RETURN 1."""
    import neo4j as driver_library
    from neo4j.exceptions import AuthError, DriverError, Neo4jError

    driver = driver_library.AsyncGraphDatabase.driver(
        uri, auth=(user, password), connection_timeout=timeout_seconds, max_transaction_retry_time=0
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            await driver.execute_query("RETURN 1")
    except AuthError as error:
        return Answer(ok=False, reason=_words(error), refused_credentials=True)
    except (OSError, DriverError, Neo4jError) as error:
        return Answer(ok=False, reason=_words(error))
    finally:
        await driver.close()
    return Answer(ok=True)


async def tcp(host: str, port: int, *, timeout_seconds: float = PROBE_TIMEOUT_SECONDS) -> Answer:
    """Open a connection: a cheap probe before an expensive one."""
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Answer(ok=False, reason=_words(error))
    writer.close()
    return Answer(ok=True)


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
