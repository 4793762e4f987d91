"""The golden files: what each version of REST is asked, and what it answers, byte for byte.

`tests/golden/<version>/*.http` hold exchanges, each file on a record of its own, in order:

    ### what this is about
    POST /v1/identify
    content-type: application/json

    {"email":"lorraine@hillvalley.edu"}

    => 200
    content-type: application/json

    {"contact":...}

`guarded.http` is asked of an API that wants credentials; `{service}` stands for the key of a service. With
NEXUS_GOLDEN=write the answers are written down anew.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx2
import pytest

from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role
from tests.stage.callers import guarded_api, key_for
from tests.stage.running import ApiServer, both_ways, running_api, running_relay

GOLDEN: Final = Path(__file__).parent.parent / "golden"
FILES: Final = sorted(GOLDEN.glob("*/*.http"))
WRITES: Final = os.environ.get("NEXUS_GOLDEN") == "write"

TOLD: Final = (
    "allow", "content-type", "deprecation", "etag", "idempotent-replayed", "link", "nexus-ignored", "nexus-outcome",
    "retry-after", "sunset", "www-authenticate",
)  # fmt: skip
"""Headers that golden files hold. Those of every answer have tests of their own."""

_varies = re.compile(r'("(?:uptimeSeconds|responseSeconds|memoryBytes|cpuSeconds|cpuPercent)"):[-0-9.e]+')
_times = re.compile(r'("(?:createdAt|at)"):"[^"]*"')
_release = re.compile(r'("version"):"[^"]*"')


class Exchange(NamedTuple):
    """A request, and the answer as the file has it."""

    title: str
    method: str
    path: str
    headers: dict[str, str]
    body: str
    answer: str


def asked_in(file: Path) -> list[Exchange]:
    """The exchanges of a file, in order."""
    found = []
    for part in file.read_text("utf-8").split("### ")[1:]:
        title, _, rest = part.partition("\n")
        request, _, answer = rest.partition("\n=> ")
        head, _, body = request.partition("\n\n")
        first, *lines = head.strip().splitlines()
        method, path = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        found.append(Exchange(title, method, path, headers, body.strip(), answer.strip()))
    return found


def written(asked: list[Exchange], answers: list[str]) -> str:
    parts = []
    for one, answer in zip(asked, answers, strict=True):
        head = "\n".join([f"{one.method} {one.path}", *(f"{name}: {value}" for name, value in one.headers.items())])
        body = f"\n{one.body}\n" if one.body else ""
        parts.append(f"### {one.title}\n{head}\n{body}\n=> {answer}\n")
    return "\n".join(parts)


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def shown(response: httpx2.Response) -> str:
    """The answer without what no two answers have alike."""
    head = [
        str(response.status_code),
        *(f"{name}: {response.headers[name]}" for name in TOLD if name in response.headers),
    ]
    body = _release.sub(r'\1:"0"', _times.sub(r'\1:"1970-01-01T00:00:00Z"', _varies.sub(r"\1:0", response.text)))
    return "\n".join(head) + (f"\n\n{body}" if body else "")


@asynccontextmanager
async def api_for(file: Path, settings: Settings) -> AsyncIterator[ApiServer]:
    if file.stem == "guarded":
        async with guarded_api(settings) as server:
            yield server
    else:
        async with running_relay(settings), running_api(settings) as server:
            yield server


async def all_well(client: httpx2.AsyncClient) -> None:
    """Return once every server is, the relay included."""
    async with asyncio.timeout(30):
        while (await client.get("/health")).json()["status"] != "ok":  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.1)


@both_ways
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
async def test_answers_are_golden(settings: Settings, file: Path) -> None:
    asked = asked_in(file)
    keys = {role.value: await key_for(settings, role) for role in Role} if file.stem == "guarded" else {}
    answers = []
    async with api_for(file, settings) as server, httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
        await all_well(client)
        for one in asked:
            headers = {
                name: re.sub(r"\{(\w+)\}", lambda role: keys[role[1]], value) for name, value in one.headers.items()
            }
            content = one.body.encode() or None
            answers.append(shown(await client.request(one.method, one.path, headers=headers, content=content)))
    if WRITES:
        write(file, written(asked, answers))
    for one, answer in zip(asked, answers, strict=True):
        assert answer == one.answer or WRITES, one.title


def test_every_version_has_golden_files() -> None:
    assert {file.parent.name for file in FILES} == {"v1", "v1.1", "v2", "unversioned"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_golden_file_is_read_as_it_is_written(file: Path) -> None:
    asked = asked_in(file)
    assert written(asked, [one.answer for one in asked]) == file.read_text("utf-8")
