"""Connections to Redis."""

from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from nexus_graph.addresses import where
from nexus_graph.config import Settings
from nexus_graph.errors import UnusableAddress

TIMEOUT_SECONDS: Final = 0.1
"""Seconds that Redis has to answer: the graph answers in less when it is well."""

AWAY_SECONDS: Final = 1.0
"""Seconds that Redis is left alone after a failure, so that few readers wait for it."""


def open_redis(settings: Settings, *, timeout_seconds: float) -> Redis:
    """A client that connects at its first use. The caller closes it. Raises UnusableAddress."""
    try:
        return Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 1),  # a connection that the server closed while it was idle is no sign of trouble
        )
    except ValueError as error:
        place = where(settings, "redis_url")
        raise UnusableAddress(f"Redis cannot be found at {place}: that is no redis:// URL") from error
