"""`nexus-graph cache warm`: the families that changed last, put into Redis."""

import asyncio
import json
import sys
from typing import Final

from nexus_graph.addresses import where
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.cache.warm import FAMILIES_MAX, warm
from nexus_graph.commands.ending import without_traceback
from nexus_graph.commands.progress import contacts_bar
from nexus_graph.config import Settings
from nexus_graph.failures import say
from nexus_graph.statements import sql
from nexus_graph.store.database import open_pool

TIMEOUT_SECONDS: Final = 5.0
"""The longest that Redis may take for one batch of families: no reader waits for this command."""


def run(settings: Settings, *, as_json: bool = False) -> int:
    """The command: exit code 0, or 1 with a reason if there is no such cache or a server is away."""
    if settings.cache != "both":
        say("nothing to warm: NEXUS_CACHE is not `both`, so no family is kept in Redis")
        return 1
    return without_traceback(settings, lambda: asyncio.run(_run(settings, as_json=as_json)))


async def _run(settings: Settings, *, as_json: bool) -> int:
    async with open_pool(settings, role="nexus_api", size=1) as pool:
        shared = SharedFamilies(settings, timeout_seconds=TIMEOUT_SECONDS)
        try:
            total = min(FAMILIES_MAX, await pool.fetchval(sql("contacts_live")))
            with contacts_bar("warm", total, quiet=as_json) as progress:
                kept = await warm(pool, shared, progress=progress)
            away = shared.is_away
        finally:
            await shared.close()
    if away:
        say(f"Redis at {where(settings, 'redis_url')} does not answer, or refuses the login")
        return 1
    sys.stdout.write(json.dumps({"families": kept}) + "\n" if as_json else f"kept {kept:,} families\n")
    return 0
