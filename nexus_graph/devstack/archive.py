"""An archive of Neo4j's loaded classes, their links, and its hot code (the JVM's ahead-of-time cache): with the archive
Neo4j starts in about three seconds rather than eight, and soon reaches its full speed.

Each user's archive is made once, from a training run of a throw-away server, which takes a minute of one core:
`nexus-graph up` makes it in the background, in idle processor time, and `python -m nexus_graph.devstack.archive` at
once. Everything works without the archive.
"""

import asyncio
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from nexus_graph.devstack import jars
from nexus_graph.devstack.neo4j import USER, Neo4j, archive_path, java_arguments, java_environment
from nexus_graph.devstack.ports import PortLeases
from nexus_graph.devstack.process import ChildProcess, Command, Say, StackError, describe_exit

TRAINING_PASSWORD = "of a throw-away server"  # noqa: S105 - a server on loopback for a minute, without real data
TIMEOUT_SECONDS = 300.0  # a busy machine leaves little idle time


async def make(installation: Path, say: Say, *, in_background: bool) -> None:
    """Make the archive if it is missing. A failure is printed and not raised: Neo4j starts without the archive."""
    target = archive_path(installation)
    if target.exists():
        return
    with _only_maker(target) as alone:
        if not alone:
            return
        say("preparing Neo4j to start quicker from now on (once for this user)")
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await _make(installation, target, in_background=in_background)
        except TimeoutError:
            say("preparing Neo4j took too long; the next start tries again")
        except (StackError, OSError) as error:
            say(f"preparing Neo4j failed, which does no harm; the next start tries again: {error}")
        else:
            say("Neo4j will start quicker from now on")


@contextmanager
def _only_maker(target: Path) -> Iterator[bool]:
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(target.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


async def _make(installation: Path, target: Path, *, in_background: bool) -> None:
    folder = _training_folder(installation)
    leases = PortLeases()
    try:
        await _train(installation, folder, leases, in_background=in_background)
        await _create(installation, folder, in_background=in_background)
        (folder / "archive").replace(target)
        for older in target.parent.glob("*.aot"):
            if older != target:
                older.unlink(missing_ok=True)  # a running server keeps the open file
    finally:
        leases.release()
        shutil.rmtree(folder, ignore_errors=True)


def _training_folder(installation: Path) -> Path:
    for left_over in installation.glob("training-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix="training-", dir=installation))


async def _train(installation: Path, folder: Path, leases: PortLeases, *, in_background: bool) -> None:
    """Run a server that records its work, train the server, and stop it: then it writes the recording."""
    from nexus_graph.devstack.training import train  # imports the driver, so not before `nexus-graph up` is ready

    server = Neo4j(
        folder / "neo4j",
        leases.choose(0),
        leases.choose(0),
        TRAINING_PASSWORD,
        installation,
        archive_options=["-XX:AOTMode=record", f"-XX:AOTConfiguration={folder / 'notes'}"],
    )
    await asyncio.to_thread(server.prepare)
    command = server.command(folder / "training.log")
    process = ChildProcess(
        # No standstill before the timeout: a background process may pause while others work.
        replace(command, in_background=in_background, standstill_seconds=TIMEOUT_SECONDS, stop_timeout_seconds=0)
    )
    try:
        await process.start()
        await train(server.uri, USER, TRAINING_PASSWORD)
        process.ask_to_stop()
        await _well_ended(process)
    finally:
        await process.stop()  # kills the server at once: unwritten data have no use


async def _create(installation: Path, folder: Path, *, in_background: bool) -> None:
    """Make the archive from the recording."""
    options = ["-XX:AOTMode=create", f"-XX:AOTConfiguration={folder / 'notes'}", f"-XX:AOTCache={folder / 'archive'}"]
    (folder / "create.args").write_text(java_arguments(installation, options))
    process = ChildProcess(
        Command(
            name="archive",
            argv=[str(jars.java()), f"@{folder / 'create.args'}"],
            log=folder / "create.log",
            cwd=folder,
            env=java_environment(),
            in_background=in_background,
            stop_timeout_seconds=0,
        )
    )
    try:
        await process.start()
        await _well_ended(process)
    finally:
        await process.stop()


async def _well_ended(process: ChildProcess) -> None:
    code = await process.wait()
    if code:
        raise StackError(f"{process.name} {describe_exit(code)}; {process.log_tail()}")


def _main() -> int:
    console = Console()
    installation = jars.install(console.print, console, threading.Event())
    asyncio.run(make(installation, console.print, in_background=False))
    return 0 if archive_path(installation).exists() else 1


if __name__ == "__main__":
    sys.exit(_main())
