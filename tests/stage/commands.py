"""Node.js and Python as they stand beside each other here: clients of the API, and what npm installs for them."""

import asyncio
import os
import signal
import sys
from asyncio import StreamReader
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from filelock import AsyncFileLock

_BIN: str = str(Path(sys.executable).parent)


async def ran(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code of a command, and what it printed. `node`, `npm` and `python` are those beside this Python."""
    process = await _started(*command, cwd=cwd, env=env)
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


@asynccontextmanager
async def running(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> AsyncIterator[StreamReader]:
    """What a command prints, line by line. It is ended when there is no more interest."""
    process = await _started(*command, cwd=cwd, env=env)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        # `node` is a wrapper here: the program itself is its child, and holds the pipe.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.wait()


async def told(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """What a command printed. AssertionError if it failed."""
    code, printed = await ran(*command, cwd=cwd, env=env)
    assert code == 0, printed
    return printed


async def _started(*command: str | Path, cwd: Path, env: Mapping[str, str] | None) -> Process:
    path = os.pathsep.join([str(cwd / "node_modules" / ".bin"), _BIN, os.environ.get("PATH", "")])
    return await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env={**os.environ, "PATH": path, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


async def npm_installed(folder: Path) -> Path:
    """The folder, once it holds what its lock file says."""
    async with AsyncFileLock(folder / ".npm.lock"):  # another process of the tests may install it now
        if not _is_newer(folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"):
            await told("npm", "ci", "--no-audit", "--no-fund", cwd=folder)
    return folder


def _is_newer(installed: Path, locked: Path) -> bool:
    return installed.exists() and installed.stat().st_mtime >= locked.stat().st_mtime
