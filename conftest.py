"""Real servers for every test: PostgreSQL, Valkey, Neo4j once a session; a fresh database and empty graph each test."""

import os
import random
from collections.abc import AsyncIterator, Generator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import asyncpg
import httpx2
import pytest
import redis.asyncio as redis
from neo4j import AsyncDriver, AsyncGraphDatabase

from nexus_graph.config import Settings
from nexus_graph.devstack.stack import Stack, StackOptions, StackUrls
from nexus_graph.graph.driver import ensure_constraints
from nexus_graph.identity.opening import Identity, open_identity
from nexus_graph.store.database import Pool
from nexus_graph.store.migrate import migrate
from nexus_graph.telemetry import configure_logging
from tests.stage.equipment import closing_line
from tests.stage.running import ApiServer, running_api, running_relay

_TEMPLATE = "nexus_template"
_numbers = count(1)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Name in one line, after all that pytest says, which tests were not run."""
    yield
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    if (line := closing_line(reason.removeprefix("Skipped: ") for reason in reasons)) is not None:
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def logging() -> None:
    """The log as a server keeps it, whatever the test before wanted to hear."""
    configure_logging("INFO")


@pytest.fixture
def rng() -> random.Random:
    """Chance that a failed test prints the seed of: NEXUS_TEST_SEED brings it back."""
    seed = int(os.environ.get("NEXUS_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"NEXUS_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[StackUrls]:
    # Not pytest's own temporary folder: each new session of pytest shuts PostgreSQL's user out of all earlier ones.
    with TemporaryDirectory(prefix="nexus-test-", ignore_cleanup_errors=True) as data_dir:
        # Durability is the subject of tests that ask for it with servers of their own.
        options = StackOptions(
            data_dir=Path(data_dir),
            servers_only=True,
            quiet=True,
            postgres_settings={"fsync": "off", "max_connections": "200"},
        )
        async with Stack(options) as stack:
            yield stack.urls


@pytest.fixture(scope="session")
async def template(servers: StackUrls) -> StackUrls:
    """The servers, once they hold a migrated database to copy and the graph has its constraints."""
    admin = await asyncpg.connect(servers.database_url)
    await admin.execute(f'CREATE DATABASE "{_TEMPLATE}"')
    await admin.close()
    connection = await asyncpg.connect(_database(servers.database_url, _TEMPLATE))
    await migrate(connection)
    await connection.close()
    async with AsyncGraphDatabase.driver(
        servers.neo4j_uri, auth=(servers.neo4j_user, servers.neo4j_password)
    ) as driver:
        await ensure_constraints(driver)
    return servers


@pytest.fixture
def carrier(request: pytest.FixtureRequest) -> Literal["on", "off"]:
    """NEXUS_DIRECT: tests marked `both_ways` run with each value."""
    chosen: Literal["on", "off"] = getattr(request, "param", "on")
    return chosen


@pytest.fixture
async def settings(template: StackUrls, carrier: Literal["on", "off"]) -> AsyncIterator[Settings]:
    """Settings bound to a database of this test's own, an empty graph and an empty Valkey."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(template.database_url)
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{_TEMPLATE}"')
    settings = Settings(
        direct=carrier,
        database_url=_database(template.database_url, name),
        redis_url=template.redis_url,
        neo4j_uri=template.neo4j_uri,
        neo4j_user=template.neo4j_user,
        neo4j_password=template.neo4j_password,
        graph_patience_seconds=2.0,  # a busy machine does not take the graph from a test that is about its answers
    )
    async with AsyncGraphDatabase.driver(
        template.neo4j_uri, auth=(template.neo4j_user, template.neo4j_password)
    ) as driver:
        await driver.execute_query("MATCH (n) DETACH DELETE n")
    async with redis.from_url(template.redis_url) as valkey:
        await valkey.flushall()
    yield settings
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    """The record, as its owner."""
    async with asyncpg.create_pool(settings.database_url.get_secret_value(), min_size=1, max_size=8) as pool:
        yield pool


@pytest.fixture
async def driver(settings: Settings) -> AsyncIterator[AsyncDriver]:
    """The graph."""
    async with AsyncGraphDatabase.driver(
        settings.neo4j_uri, auth=(settings.neo4j_user, settings.neo4j_password.get_secret_value())
    ) as driver:
        yield driver


@pytest.fixture
async def identity(settings: Settings) -> AsyncIterator[Identity]:
    """The verbs, without HTTP."""
    async with open_identity(settings) as identity:
        yield identity


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[ApiServer]:
    """The API on a port of its own, and the relay."""
    async with running_relay(settings), running_api(settings) as server:
        yield server


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that API."""
    async with httpx2.AsyncClient(base_url=server.url, timeout=10) as client:
        yield client


@pytest.fixture(scope="session")
def project() -> Path:
    """The top of the checkout."""
    return Path(__file__).parent


def _database(url: str, name: str) -> str:
    head, _, query = url.partition("?")
    return head.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
