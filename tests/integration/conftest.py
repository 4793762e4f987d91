"""Servers of a test's own."""

from collections.abc import AsyncIterator

import pytest

from tests.stage.redis import OwnRedis, own_redis


@pytest.fixture
async def own(unused_tcp_port: int) -> AsyncIterator[OwnRedis]:
    """A Redis for this test alone."""
    async with own_redis(unused_tcp_port) as server:
        yield server
