"""A disk that is full under load: nothing dies that could serve, reads go on, and all comes back with the space."""

import asyncio
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import asyncpg
import httpx2
import pytest

from nexus_graph.config import Settings
from nexus_graph.devstack.stack import Stack, StackOptions
from tests.stage.equipment import not_run
from tests.stage.running import ServeProcess
from tests.stage.stacks import supervised, verified

pytestmark = pytest.mark.drill

FULL_SECONDS = 20.0
BACK_SECONDS = 90
PEOPLE = 50


@contextmanager
def mounted(folder: Path, *, megabytes: int) -> Iterator[None]:
    """A small disk of its own, where one can be mounted."""
    mount = ("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder)
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        not_run("a disk that may be filled", command="as root on Linux: make drill")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, megabytes=1_100):
        yield tmp_path


@asynccontextmanager
async def filled(disk: Path) -> AsyncIterator[None]:
    """Every block of it is taken, again and again, as what is deleted there makes room."""
    fill = disk / "fill"
    filling = asyncio.create_task(_fill(fill))
    try:
        yield
    finally:
        filling.cancel()
        await asyncio.wait([filling])
        fill.unlink()


async def _fill(fill: Path) -> None:
    while True:
        await asyncio.to_thread(_append, fill)
        await asyncio.sleep(0.02)


def _append(fill: Path) -> None:
    with fill.open("ab", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass


async def test_the_stack_outlives_a_full_disk(disk: Path) -> None:
    await _outlives(disk, _options(disk / "data"))


async def test_the_stack_outlives_a_full_disk_under_the_write_ahead_log() -> None:
    """PostgreSQL then ends itself whenever it needs a new segment. The graph answers readers meanwhile."""
    with TemporaryDirectory(prefix="nexus-drill-", ignore_cleanup_errors=True) as folder:
        options = _options(Path(folder))
        async with Stack(replace(options, servers_only=True)):
            pass
        with _on_a_disk_of_its_own(_write_ahead_log(Path(folder))) as log:
            await _outlives(log, options, needing_segments=True)


def _write_ahead_log(data_dir: Path) -> Path:
    return next(data_dir.rglob("pg_wal"))


@contextmanager
def _on_a_disk_of_its_own(folder: Path) -> Iterator[Path]:
    """The folder, with its content and owner."""
    owner, aside = folder.stat(), folder.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    with mounted(folder, megabytes=200):
        subprocess.run(["cp", "--archive", f"{aside}/.", folder], check=True)
        os.chown(folder, owner.st_uid, owner.st_gid)
        folder.chmod(owner.st_mode)
        shutil.rmtree(aside)
        yield folder


def _options(data_dir: Path) -> StackOptions:
    return StackOptions(data_dir=data_dir, port=0, browser_port=0, bolt_port=0, quiet=True)


async def _outlives(disk: Path, options: StackOptions, *, needing_segments: bool = False) -> None:
    async with (
        Stack(options) as stack,
        supervised(stack),
        httpx2.AsyncClient(base_url=stack.urls.api, timeout=15) as api,
    ):
        acknowledged: dict[str, int] = {}
        for number in range(PEOPLE):
            await _identify(api, f"before{number}@example.com", acknowledged, Counter())
        assert await verified(stack)
        pids = {name: stack.process(name).pid for name in ("api", "relay")}
        written: Counter[str] = Counter()
        read: Counter[str] = Counter()
        async with filled(disk):
            full_until = monotonic() + FULL_SECONDS
            numbers = iter(range(1_000_000))
            while monotonic() < full_until:
                if needing_segments:
                    await _need_a_segment(stack)
                await _identify(api, f"during{next(numbers)}@example.com", acknowledged, written)
                await _read(api, f"before{next(numbers) % PEOPLE}@example.com", read)
        back = monotonic()
        async with asyncio.timeout(BACK_SECONDS):
            while (answer := await _identify(api, "after@example.com", acknowledged, Counter())) != 200:
                assert answer == 503
                await asyncio.sleep(0.1)
            took = monotonic() - back
            while (await api.get("/health")).json()["status"] != "ok":  # noqa: ASYNC110 - it is asked, and tells nobody
                await asyncio.sleep(0.1)
        print(
            f"full for {FULL_SECONDS:g} s: writes {dict(written)}, reads {dict(read)}; written again in {took:.1f} s, "
            f"PostgreSQL was started again {stack.process('postgres').restarts} times"
        )
        assert {name: stack.process(name).pid for name in pids} == pids, "neither API nor relay died"
        assert set(written) <= {"200", "503"}
        assert written["503"] > 0
        assert set(read) <= {"200", "503"}
        assert read["200"] > 0.9 * read.total()
        for email, family in acknowledged.items():
            assert (await api.post("/identify", json={"email": email})).json()["contact"]["primaryContactId"] == family
        assert await verified(stack)


async def _need_a_segment(stack: Stack) -> None:
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection = await asyncpg.connect(stack.urls.database_url, timeout=2)
        try:
            await connection.execute("SELECT pg_logical_emit_message(false, 'drill', ''), pg_switch_wal()", timeout=2)
        finally:
            connection.terminate()


async def _identify(api: httpx2.AsyncClient, email: str, acknowledged: dict[str, int], told: Counter[str]) -> int:
    answer = await api.post("/identify", json={"email": email})
    told[str(answer.status_code)] += 1
    if answer.status_code == 200:
        acknowledged[email] = answer.json()["contact"]["primaryContactId"]
    else:
        assert "retry-after" in answer.headers
    return answer.status_code


async def _read(api: httpx2.AsyncClient, email: str, told: Counter[str]) -> None:
    query = "query F($email: EmailAddress!) { contactFamily(by: {email: $email}) { emails } }"
    answer = await api.post("/graphql", json={"query": query, "variables": {"email": email}})
    found = answer.json().get("data") or {}
    told["200" if found.get("contactFamily") else f"{answer.status_code}"] += 1


async def test_workers_outlive_a_full_disk_under_their_metrics(settings: Settings, project: Path, disk: Path) -> None:
    running = await ServeProcess.start(settings, project, "--workers", "2", TMPDIR=str(disk))
    pids = {(await running.event("worker_started"))["pid"] for _ in range(2)}
    for _ in range(2):
        url = await running.url()
    async with filled(disk), httpx2.AsyncClient(base_url=url) as api:
        for path in ("/nowhere", "/metrics", "/livez", "/graphql", "/identify"):
            for _ in range(20):
                assert (await api.get(path)).status_code < 500
        for pid in pids:
            os.kill(pid, 0)
    running.process.terminate()
    assert await running.process.wait() == 0
    assert running.process.stderr is not None
    assert b"worker_died" not in await running.process.stderr.read()
