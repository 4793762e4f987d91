"""A streaming replica of the tests' PostgreSQL, made by pg_basebackup: it can be paused, stalled, killed and mended."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import asyncpg

from nexus_graph.devstack.ports import PortLeases
from nexus_graph.devstack.postgres import Postgres, _programs, _run
from nexus_graph.devstack.process import ChildProcess, in_thread
from nexus_graph.store.database import Pool
from tests.stage.graphing import PATIENCE_SECONDS


@dataclass
class Standby:
    """One replica. What it has replayed shows to whoever asks; nothing announces it, so it is asked."""

    postgres: Postgres
    process: ChildProcess
    admin: Pool

    def url(self, database: str) -> str:
        return self.postgres.url(database)

    async def caught_up(self, primary: Pool) -> None:
        """Return once it shows all that the primary has committed."""
        written = await primary.fetchval("SELECT pg_current_wal_flush_lsn()")
        await self._until("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", written)

    async def pause(self) -> None:
        """Let it show the state of now and no later one."""
        await self.admin.execute("SELECT pg_wal_replay_pause()")
        await self._until("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    async def resume(self) -> None:
        await self.admin.execute("SELECT pg_wal_replay_resume()")

    async def kill(self) -> None:
        """End it as a fault would."""
        self.process.kill()
        await self.process.wait()

    async def mend(self) -> None:
        """Start it again where it is dead, and let it replay where it is paused."""
        await self.process.start()
        await self.resume()

    @contextmanager
    def stalled(self, sessions: list[int]) -> Iterator[None]:
        """These of its processes do nothing for a while, and their clients hear nothing."""
        for session in sessions:
            os.kill(session, signal.SIGSTOP)
        try:
            yield
        finally:
            for session in sessions:
                os.kill(session, signal.SIGCONT)

    async def sessions(self, database: str) -> list[int]:
        """The processes that serve the API's reads of this database."""
        rows = await self.admin.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name = 'nexus_api'", database
        )
        return [row["pid"] for row in rows]

    async def _until(self, condition: str, *parameters: object) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self.admin.fetchval(condition, *parameters):
                pass


@asynccontextmanager
async def running_standby(primary_url: str) -> AsyncIterator[Standby]:
    """A replica of the whole server, on a port of its own."""
    leases = PortLeases()
    password = urlsplit(primary_url).password
    assert password is not None
    with TemporaryDirectory(prefix="nexus-standby-", ignore_cleanup_errors=True) as folder:
        # As many connections as the primary has: a replica with fewer refuses to follow it.
        settings = {"fsync": "off", "max_connections": "200", "shared_buffers": "64MB"}
        postgres = Postgres(Path(folder) / "postgres", leases.choose(0), password, _say, settings)
        await in_thread(_copy, postgres, primary_url)
        process = ChildProcess(postgres.command(Path(folder) / "standby.log"))
        await process.start()
        try:
            async with asyncpg.create_pool(postgres.url("postgres"), min_size=1, max_size=2) as admin:
                yield Standby(postgres, process, admin)
        finally:
            process.force()
            await process.wait()
            leases.release()


def _copy(postgres: Postgres, primary_url: str) -> None:
    postgres.user = postgres._run_as()
    postgres._own(postgres.folder)
    postgres._before_start()
    argv = [
        str(_programs() / "pg_basebackup"),
        f"--pgdata={postgres.data}",
        f"--dbname={primary_url.rpartition('/')[0]}/",
        "--write-recovery-conf",
        "--checkpoint=fast",
        "--no-sync",
    ]
    _run(argv, postgres.user, cwd=postgres.folder)
    postgres.prepare()


def _say(_text: str) -> None:
    pass
