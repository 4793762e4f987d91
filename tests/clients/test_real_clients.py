"""Clients as people use them, with their defaults, each telling one story: it writes, reads its own write, turns pages,
and follows a family while it changes. Every client must come to the same end."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest
from jgo.maven import MavenContext

from nexus_graph.devstack.jars import installation, java
from tests.stage.commands import npm_installed, told
from tests.stage.running import ApiServer

ECJ_VERSION: Final = "3.44.0"
"""Eclipse's compiler of Java: the runtime that Neo4j runs on has none."""

EMAILS: Final = [f"p{number}@clients.example" for number in range(5)]
STORY: Final = {
    "outcomes": ["CREATED", "LINKED", "LINKED", "LINKED", "LINKED"],
    "emails": EMAILS,
    "pages": [EMAILS[1:4], EMAILS[4:]],
    "sizes": [5, 6],
}
PHONE: Final = "+14155550123"


@pytest.fixture(scope="session")
async def clients() -> Path:
    """The folder of the clients, with npm's packages and what relay-compiler makes of Relay's documents."""
    folder = await npm_installed(Path(__file__).parent / "real")
    await told("npm", "run", "--silent", "relay", cwd=folder)
    return folder


@pytest.fixture(scope="session")
async def java_story(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the story in Java, compiled, with the JSON library that Neo4j brings."""
    classes = tmp_path_factory.mktemp("classes")
    jars = [str(jar) for jar in (installation() / "jars").glob("jackson-*.jar")]
    path = os.pathsep.join([str(classes), *jars])
    compiler = await asyncio.to_thread(_compiler, tmp_path_factory.mktemp("maven"))
    source = Path(__file__).parent / "real" / "Story.java"
    await told(
        java(), "-jar", compiler, "-21", "-proc:none", "-nowarn", "-cp", path, "-d", classes, source, cwd=classes
    )
    return [str(java()), "-cp", path, "Story"]


async def story(server: ApiServer, *command: str, cwd: Path) -> object:
    """What a client printed last: the story."""
    printed = await told(*command, f"{server.url}/graphql", PHONE, cwd=cwd)
    answer: object = json.loads(printed.splitlines()[-1])
    return answer


@pytest.mark.parametrize("client", ["apollo", "urql", "relay", "graphql-ws", "graphql-sse"])
async def test_a_client_in_javascript(server: ApiServer, clients: Path, client: str) -> None:
    assert await story(server, "node", f"{client}.js", cwd=clients) == STORY


async def test_javas_http_client(server: ApiServer, java_story: list[str], tmp_path: Path) -> None:
    assert await story(server, *java_story, cwd=tmp_path) == STORY


async def test_gql_for_python(server: ApiServer, project: Path) -> None:
    folder = project / "tests" / "clients" / "real"
    assert await story(server, sys.executable, "story.py", cwd=folder) == STORY


def _compiler(repository: Path) -> Path:
    mirror = os.environ.get("NEXUS_MAVEN_URL")
    remotes = {"mirror": mirror.rstrip("/")} if mirror else None
    context = MavenContext(repo_cache=repository, remote_repos=remotes)
    jar = context.project("org.eclipse.jdt", "ecj").at_version(ECJ_VERSION).artifact()
    return Path(jar.resolve())
