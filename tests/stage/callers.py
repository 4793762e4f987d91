"""Callers of every role, with keys of their own, and an API that asks for them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import asyncpg
import httpx2

from nexus_graph.config import Settings
from nexus_graph.door.issuing import create
from nexus_graph.door.permissions import Role
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.running import ApiServer, running_api, running_relay

PLENTY = {role.value: "1000000/minute" for role in Role}
"""So that no test but those of limits meets one."""


async def key_for(settings: Settings, *roles: Role, lasts_seconds: float | None = None) -> str:
    """A new key, as its holder presents it."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        made = await create(connection, "-".join(roles) or "none", list(roles), lasts_seconds)
    finally:
        await connection.close()
    return made.text


async def known(server: ApiServer, *keys: str) -> None:
    """Return once the API knows keys that were made while it ran. Each look counts as a call, of a stranger or of the
    key.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        for key in keys:
            async with calling(server, key) as client:
                while (await client.get("/livez")).status_code != HTTPStatus.OK:
                    pass


def bearing(key: str | None) -> dict[str, str]:
    """The headers of a caller with this key."""
    return {} if key is None else {"authorization": f"Bearer {key}"}


@asynccontextmanager
async def guarded_api(settings: Settings, **more: Any) -> AsyncIterator[ApiServer]:
    """The API, which asks for credentials, and the relay. `more`: settings."""
    guarded = settings.model_copy(update={"auth": "on", "rate_limit": "1000000/minute", "rate_limits": PLENTY, **more})
    async with running_relay(settings), running_api(guarded) as server:
        yield server


@asynccontextmanager
async def calling(server: ApiServer, key: str | None, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that API with this key."""
    # Without a check of certificates, as there is none by http: to read the authorities takes 30 ms a client.
    async with httpx2.AsyncClient(
        base_url=server.url,
        headers={**bearing(key), **headers},
        timeout=30,
        verify=False,
    ) as client:
        yield client


async def asked(client: httpx2.AsyncClient, query: str, **variables: object) -> Mapping[str, Any]:
    """The whole answer to a GraphQL operation."""
    answer: Mapping[str, Any] = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    return answer
