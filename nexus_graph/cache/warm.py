"""`nexus-graph cache warm`: keep the families that changed last, under everything that they can be asked by."""

import asyncio
import json
import sys

from nexus_graph.addresses import where
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.config import Settings
from nexus_graph.ending import say, without_traceback
from nexus_graph.graph.progress import contacts_bar
from nexus_graph.graph.verify import Progress
from nexus_graph.identity.model import Family
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool, close_pool, connect_pool

_BATCH = 500
_EVENTS_A_FAMILY = 4
"""How far to look back: families have more events than one."""


async def warm(pool: Pool, shared: SharedFamilies, settings: Settings, *, progress: Progress = lambda _: None) -> int:
    """How many families were kept. Raises what the database's driver raises."""
    most = settings.cache_warm_families
    ids = [row[0] for row in await pool.fetch(sql("families_newest"), most * _EVENTS_A_FAMILY, most)]
    kept = 0
    for start in range(0, len(ids), _BATCH):
        for row in await pool.fetch(sql("family_of_contact"), ids[start : start + _BATCH]):
            family = Family.of_columns(*row[1:])
            if len(family.contacts) <= settings.cache_family_max_contacts:
                shared.keep(list(family.known_by()), family)
                kept += 1
            progress(len(family.contacts))
        await shared.written()
        if shared.is_away:
            break
    return kept


def run(settings: Settings, *, as_json: bool = False) -> int:
    """The command: exit code 0, or 1 with a reason if there is no such cache or a server is away."""
    if settings.cache != "both":
        say("nothing to warm: NEXUS_CACHE is not `both`")
        return 1
    return without_traceback(settings, lambda: asyncio.run(_run(settings, as_json=as_json)))


async def _run(settings: Settings, *, as_json: bool) -> int:
    pool = await connect_pool(settings, role="nexus_api", size=1)
    shared = SharedFamilies(settings)
    try:
        total = min(settings.cache_warm_families, await pool.fetchval(sql("contacts_live")))
        with contacts_bar("warm", total, quiet=as_json) as progress:
            kept = await warm(pool, shared, settings, progress=progress)
        away = shared.is_away
    finally:
        await shared.close()
        await close_pool(pool, settings)
    if away:
        say(f"Redis at {where(settings, 'redis_url')} does not answer, or refuses the login")
        return 1
    sys.stdout.write(json.dumps({"families": kept}) + "\n" if as_json else f"kept {kept:,} families\n")
    return 0
