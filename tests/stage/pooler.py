"""Debian's pgbouncer before the tests' PostgreSQL, in transaction mode, with two sessions for all of its clients."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import SplitResult, urlsplit

import asyncpg

from nexus_graph.devstack.ports import LOOPBACK, PortLeases
from nexus_graph.devstack.postgres import _system_user
from nexus_graph.devstack.process import ChildProcess, Command
from tests.stage.equipment import debian_program

SESSIONS = 2
FIT = "nexus_pooled"
"""The login of deploy/pgbouncer/login.sql."""
UNFIT = "nexus_unfit"
"""A login that brings its sessions nothing."""
PASSWORD = "pooled"

_CONFIGURATION = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
admin_users = {FIT}
pool_mode = transaction
default_pool_size = {SESSIONS}
max_client_conn = 500
"""


@dataclass(frozen=True)
class Pooler:
    """A pgbouncer at work."""

    port: int
    process: ChildProcess

    def url(self, database: str, *, login: str = FIT) -> str:
        return f"postgresql://{login}:{PASSWORD}@{LOOPBACK}:{self.port}/{database}"


@asynccontextmanager
async def running_pooler(primary_url: str) -> AsyncIterator[Pooler]:
    """pgbouncer on a port of its own, for all databases of the server. Its logins must exist."""
    program = debian_program("pgbouncer")
    leases = PortLeases()
    port = leases.choose(0)
    with TemporaryDirectory(prefix="nexus-pooler-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _configure(folder, listen_port=port, server=urlsplit(primary_url))
        process = ChildProcess(
            Command(
                name="pgbouncer",
                argv=[program, str(folder / "pgbouncer.ini")],
                log=folder / "pgbouncer.log",
                cwd=folder,
                probe=lambda: _answers(port),
                user=_system_user() if os.geteuid() == 0 else None,
            )
        )
        await process.start()
        try:
            yield Pooler(port, process)
        finally:
            await process.stop()
            leases.release()


def _configure(folder: Path, *, listen_port: int, server: SplitResult) -> None:
    users = "".join(f'"{login}" "{PASSWORD}"\n' for login in (FIT, UNFIT))
    (folder / "users.txt").write_text(users, encoding="utf-8")
    configuration = _CONFIGURATION.format(
        host=server.hostname, port=server.port, listen_port=listen_port, folder=folder, FIT=FIT, SESSIONS=SESSIONS
    )
    (folder / "pgbouncer.ini").write_text(configuration, encoding="utf-8")
    folder.chmod(0o755)  # it refuses to run as root


async def _answers(port: int) -> bool:
    try:
        console = await asyncpg.connect(
            host=LOOPBACK, port=port, user=FIT, password=PASSWORD, database="pgbouncer", statement_cache_size=0
        )
    except OSError:
        return False
    await console.close()
    return True
