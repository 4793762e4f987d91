"""`nexus-graph rebuild-graph`: the graph, made again from the record."""

import asyncio
import json
import sys

from nexus_graph.commands.ending import without_traceback
from nexus_graph.commands.progress import contacts_bar
from nexus_graph.commands.servers import opened
from nexus_graph.config import Settings
from nexus_graph.failures import say
from nexus_graph.graph.extent import REBUILD
from nexus_graph.graph.rebuild import RebuildUnderWay, rebuild
from nexus_graph.graph.states import LANES
from nexus_graph.statements import sql


def run(settings: Settings, *, as_json: bool = False) -> int:
    """The command: exit code 0, or 1 with a reason if a server is away."""
    return without_traceback(settings, lambda: asyncio.run(_run(settings, as_json=as_json)))


async def _run(settings: Settings, *, as_json: bool) -> int:
    async with opened(settings, connections=LANES + 1) as (pool, driver):
        await driver.verify_connectivity()  # raises before anything is deleted
        total = await pool.fetchval(sql("contacts_live"))
        try:
            with contacts_bar("rebuild", total, quiet=as_json) as progress:
                rebuilt = await rebuild(pool, driver, settings, progress=progress)
        except RebuildUnderWay:
            raise
        except BaseException:
            say(f"the graph may be partial now, and the record answers readers: run `{REBUILD}` again to finish")
            raise
    if as_json:
        answer = {"families": rebuilt.families, "contacts": rebuilt.contacts, "seconds": round(rebuilt.seconds, 3)}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        rate = rebuilt.contacts / rebuilt.seconds
        sys.stdout.write(
            f"rebuilt {rebuilt.families:,} families, {rebuilt.contacts:,} contacts in {rebuilt.seconds:.1f} s "
            f"({rate:,.0f} contacts/s)\n"
        )
    return 0
