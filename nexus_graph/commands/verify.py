"""`nexus-graph verify` and `repair`: the drift between both stores, shown and mended."""

import asyncio
import json
import sys

from neo4j import AsyncDriver

from nexus_graph.commands.ending import without_traceback
from nexus_graph.commands.progress import contacts_bar
from nexus_graph.commands.servers import opened
from nexus_graph.config import Settings
from nexus_graph.graph.driver import ensure_constraints
from nexus_graph.graph.repair import PASSES_MAX
from nexus_graph.graph.repair import repair as mended
from nexus_graph.graph.states import LANES
from nexus_graph.graph.verify import Report, verify
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool


def run(settings: Settings, *, repair: bool = False, as_json: bool = False) -> int:
    """The command: exit code 0 if nothing differs (after `repair`, if set), else 1 and a report of the differences."""
    return without_traceback(settings, lambda: asyncio.run(_run(settings, mend=repair, as_json=as_json)))


async def _run(settings: Settings, *, mend: bool, as_json: bool) -> int:
    async with opened(settings, connections=LANES + 1) as (pool, driver):
        await ensure_constraints(driver)
        report = await _verify_with_bar(pool, driver, settings, quiet=as_json)
        passes_left = PASSES_MAX if mend else 0
        while report.drift and passes_left:
            if not as_json:
                sys.stdout.write("\n".join(report.lines()) + f"\nmending {report.drift}\n")
            before = report.findings
            await mended(pool, driver, settings, before)
            report = await _verify_with_bar(pool, driver, settings, quiet=as_json)
            passes_left = 0 if report.findings == before else passes_left - 1
    sys.stdout.write(json.dumps(report.as_json()) + "\n" if as_json else "\n".join(report.lines()) + "\n")
    return 1 if report.drift else 0


async def _verify_with_bar(pool: Pool, driver: AsyncDriver, settings: Settings, *, quiet: bool) -> Report:
    with contacts_bar("verify", await pool.fetchval(sql("contacts_live")), quiet=quiet) as progress:
        return await verify(pool, driver, settings, progress=progress)
