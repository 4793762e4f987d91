"""Who the tests of the door call as."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role
from nexus_graph.store.database import Connection
from tests.stage.callers import key_for


@pytest.fixture
async def keys(settings: Settings) -> dict[Role, str]:
    """A key of each role."""
    return {role: await key_for(settings, role) for role in Role}


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Connection]:
    """A connection of the record's owner, who makes and revokes keys."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    yield connection
    await connection.close()
