"""Processes of the record that do nothing for a while."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nexus_graph.store.database import Pool


async def backends(pool: Pool, *, role: str, last: str = "%") -> set[int]:
    """The processes that serve the sessions of a role in this database, by the statement that each ran last."""
    rows = await pool.fetch(
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = $1 AND query LIKE $2",
        role,
        last,
    )
    return {row["pid"] for row in rows}


@contextmanager
def stopped(processes: set[int]) -> Iterator[None]:
    """Their clients hear nothing meanwhile."""
    assert processes
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
