"""The examples do what the README says of them, against the API."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest

from tests.stage.commands import ran, running, told
from tests.stage.running import ApiServer

LORRAINE = ("lorraine@hillvalley.edu", "123456")
MCFLY = ("McFly@hillvalley.edu", "123456")
TYPESCRIPT = ("node", "src/main.ts")
PYTHON = (sys.executable, "who_is_this.py")

PRINTED = [
    (LORRAINE, 0, "CREATED: lorraine@hillvalley.edu by 123456\nlorraine@hillvalley.edu and 0 more\n"),
    (
        MCFLY,
        0,
        "LINKED: lorraine@hillvalley.edu, mcfly@hillvalley.edu by 123456\nlorraine@hillvalley.edu and 1 more\n",
    ),
    (("nobody", "123456"), 1, "BAD_USER_INPUT: email must be text, one @ and a domain\n"),
]


@pytest.fixture(scope="session")
async def generated(typescript: Path) -> Path:
    """The example in TypeScript, with the types of the committed schema."""
    await told("npm", "run", "generate", cwd=typescript)
    return typescript


async def prints(program: Sequence[str], server: ApiServer, cwd: Path) -> None:
    for arguments, code, printed in PRINTED:
        ended = await ran(*program, *arguments, cwd=cwd, env={"NEXUS_GRAPH_URL": f"{server.url}/graphql"})
        assert ended == (code, printed)


async def follows(program: Sequence[str], server: ApiServer, cwd: Path) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as api:
        await api.post("/identify", json={"email": LORRAINE[0], "phoneNumber": LORRAINE[1]})
        env = {"NEXUS_GRAPH_URL": f"{server.url}/graphql"}
        async with running(*program, "1", cwd=cwd, env=env) as printed, asyncio.timeout(30):
            assert await printed.readline() == b"lorraine@hillvalley.edu by 123456\n"
            await api.post("/identify", json={"email": MCFLY[0], "phoneNumber": MCFLY[1]})
            assert await printed.readline() == b"lorraine@hillvalley.edu, mcfly@hillvalley.edu by 123456\n"


async def test_typescript(server: ApiServer, generated: Path) -> None:
    await prints(TYPESCRIPT, server, generated)


async def test_typescript_is_held_to_the_schema(generated: Path, tmp_path: Path) -> None:
    await told("npm", "run", "check", cwd=generated)
    source = (generated / "src" / "main.ts").read_text(encoding="utf-8")
    planted = generated / "src" / "graphql" / "planted.ts"  # beside the generated code, which git ignores
    moved = source.replace('"./execute.ts"', '"../execute.ts"').replace('"./graphql/index.ts"', '"./index.ts"')
    planted.write_text(moved.replace("atLeast: identify.version", 'atLeast: "newest"'), encoding="utf-8")
    try:
        code, printed = await ran("npm", "run", "check", cwd=generated)
    finally:
        planted.unlink()
    assert code != 0
    assert "Type 'string' is not assignable to type 'number'" in printed


async def test_the_readme_shows_an_example_that_runs(server: ApiServer, generated: Path, project: Path) -> None:
    source = (generated / "src" / "family.ts").read_text(encoding="utf-8")
    readme = (project / "README.md").read_text(encoding="utf-8")
    for email in (LORRAINE, MCFLY):
        await ran("node", "src/main.ts", *email, cwd=generated, env={"NEXUS_GRAPH_URL": f"{server.url}/graphql"})
    printed = await told("node", "src/family.ts", cwd=generated, env={"NEXUS_GRAPH_URL": f"{server.url}/graphql"})
    assert f"```ts\n{source}```\n\n```\n{printed}```\n" in readme


async def test_typescript_follows(server: ApiServer, generated: Path) -> None:
    await follows(("node", "src/watch.ts"), server, generated)


async def test_python(server: ApiServer, project: Path) -> None:
    await prints(PYTHON, server, project / "examples" / "python")


async def test_python_follows(server: ApiServer, project: Path) -> None:
    await follows((sys.executable, "watch_family.py"), server, project / "examples" / "python")
