"""The service that the original design describes (Node, Express and pg), to measure nexus_graph against.

It is installed where it lies, as its lock file says, by the npm next to this Python or the one on the path.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.load.workload import Pairing

FOLDER: Final = Path(__file__).parent
ISOLATIONS: Final = {"express": "SERIALIZABLE", "express_plain": "READ COMMITTED"}
"""By arm, which is also the name of its database: both of one server, as it runs with either."""
POOL_CONNECTIONS: Final = 20
INSTALL_TIMEOUT_SECONDS: Final = 120
LOAD_BATCH: Final = 5_000


class CannotRun(Exception):
    """The service cannot run here; the message says why."""


def installed() -> Sequence[str]:
    """Its command line, once what its lock file names is installed. Blocks. Raises CannotRun."""
    node, npm = _program("node"), _program("npm")
    if not _is_installed():
        environment = {**os.environ, "PATH": os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", "")])}
        argv = [npm, "ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(
                argv,
                cwd=FOLDER,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=INSTALL_TIMEOUT_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise CannotRun(f"npm ci ended with exit code {error.returncode}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotRun(f"npm ci did not end well: {type(error).__name__}") from error
    return [node, str(FOLDER / "server.js")]


def environment(arm: str, database_url: str) -> Mapping[str, str]:
    """What it reads, next to PORT."""
    return {
        "NODE_ENV": "production",
        "DATABASE_URL": database_url,
        "POOL_CONNECTIONS": str(POOL_CONNECTIONS),
        "ISOLATION": ISOLATIONS[arm],
    }


async def prepare_database(arm: str, record_url: str, people: Iterator[Pairing]) -> str:
    """Make a database of its own on the record's server, with the people in it; the URL."""
    maker = await asyncpg.connect(record_url)
    try:
        await maker.execute(_statement(f"database_{arm}"))
    finally:
        await maker.close()
    url = urlunsplit(urlsplit(record_url)._replace(path=f"/{arm}"))
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_statement("schema"))
        while batch := list(islice(people, LOAD_BATCH)):
            emails, phones = zip(*(pairing.identifiers for pairing in batch), strict=True)
            await connection.execute(_statement("preload"), emails, phones)
        await connection.execute(_statement("analyze"))
    finally:
        await connection.close()
    return url


async def faults(database_url: str) -> int:
    """How much in its database concurrency broke (statements/faults.sql)."""
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval(_statement("faults")))
    finally:
        await connection.close()


async def installed_in_thread() -> Sequence[str]:
    """As `installed`, without blocking the loop."""
    return await asyncio.to_thread(installed)


def _program(name: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise CannotRun(f"there is no {name}")
    return found


def _is_installed() -> bool:
    done, locked = FOLDER / "node_modules" / ".package-lock.json", FOLDER / "package-lock.json"
    return done.exists() and done.stat().st_mtime >= locked.stat().st_mtime


def _statement(name: str) -> str:
    return (FOLDER / "statements" / f"{name}.sql").read_text(encoding="utf-8")
