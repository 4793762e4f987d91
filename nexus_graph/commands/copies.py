"""`nexus-graph verify`, `repair`, `rebuild-graph` and `cache warm`: copies of the record, compared with it or made."""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from neo4j import AsyncDriver
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from nexus_graph.addresses import where
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.cache.warm import FAMILIES_MAX, warm
from nexus_graph.config import Settings
from nexus_graph.failures import say
from nexus_graph.graph.driver import ensure_constraints, open_driver
from nexus_graph.graph.extent import REBUILD
from nexus_graph.graph.rebuild import RebuildUnderWay, rebuild
from nexus_graph.graph.repair import PASSES_MAX, repair
from nexus_graph.graph.states import LANES
from nexus_graph.graph.verify import Report, verify
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool, open_pool

WARM_TIMEOUT_SECONDS: Final = 5.0
"""The longest that Redis may take for one batch of families: no reader waits for this command."""


async def verify_graph(settings: Settings, *, mend: bool = False, as_json: bool = False) -> int:
    """Print what differs between record and graph, after mending it if `mend` is set. Returns 0 if nothing does."""
    async with _opened(settings) as (pool, driver):
        await ensure_constraints(driver)
        report = await _verify_with_bar(pool, driver, quiet=as_json)
        passes_left = PASSES_MAX if mend else 0
        while report.drift and passes_left:
            if not as_json:
                print("\n".join((*report.lines(), f"mending {report.drift}")))
            before = report.findings
            await repair(pool, driver, settings, before)
            report = await _verify_with_bar(pool, driver, quiet=as_json)
            passes_left = 0 if report.findings == before else passes_left - 1
    print(json.dumps(report.as_json()) if as_json else "\n".join(report.lines()))
    return 1 if report.drift else 0


async def rebuild_graph(settings: Settings, *, as_json: bool = False) -> int:
    """Make the graph again from the record. Returns 0."""
    async with _opened(settings) as (pool, driver):
        await driver.verify_connectivity()  # raises before anything is deleted
        try:
            with _contacts_bar("rebuild", await pool.fetchval(sql("contacts_live")), quiet=as_json) as progress:
                rebuilt = await rebuild(pool, driver, settings, progress=progress)
        except RebuildUnderWay:
            raise
        except BaseException:
            say(f"the graph may be partial now, and the record answers readers: run `{REBUILD}` again to finish")
            raise
    if as_json:
        answer = {"families": rebuilt.families, "contacts": rebuilt.contacts, "seconds": round(rebuilt.seconds, 3)}
        print(json.dumps(answer))
    else:
        print(
            f"rebuilt {rebuilt.families:,} families, {rebuilt.contacts:,} contacts in {rebuilt.seconds:.1f} s "
            f"({rebuilt.contacts / rebuilt.seconds:,.0f} contacts/s)"
        )
    return 0


async def warm_cache(settings: Settings, *, as_json: bool = False) -> int:
    """Put the families that changed last into Redis. Returns 0, or 1 with a reason if there is no such cache."""
    if settings.cache != "both":
        say("nothing to warm: NEXUS_CACHE is not `both`, so no family is kept in Redis")
        return 1
    async with open_pool(settings, role="nexus_api", size=1) as pool:
        shared = SharedFamilies(settings, timeout_seconds=WARM_TIMEOUT_SECONDS)
        try:
            total = min(FAMILIES_MAX, await pool.fetchval(sql("contacts_live")))
            with _contacts_bar("warm", total, quiet=as_json) as progress:
                kept = await warm(pool, shared, progress=progress)
            away = shared.is_away
        finally:
            await shared.close()
    if away:
        say(f"Redis at {where(settings, 'redis_url')} does not answer, or refuses the login")
        return 1
    print(json.dumps({"families": kept}) if as_json else f"kept {kept:,} families")
    return 0


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Pool, AsyncDriver]]:
    """A pool that reads the record, and a driver. Raises Unavailable if the record is away."""
    async with (
        open_pool(settings, role="nexus_relay", size=LANES + 1, server="direct") as pool,
        open_driver(settings) as driver,
    ):
        yield pool, driver


async def _verify_with_bar(pool: Pool, driver: AsyncDriver, *, quiet: bool) -> Report:
    with _contacts_bar("verify", await pool.fetchval(sql("contacts_live")), quiet=quiet) as progress:
        return await verify(pool, driver, progress=progress)


@contextmanager
def _contacts_bar(title: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal and `quiet` is false; yields the function that advances the bar."""
    counts = (MofNCompleteColumn(), TextColumn("contacts"), _Rate(), TimeElapsedColumn())
    console = Console(stderr=True)
    disable = quiet or not sys.stderr.isatty()
    with Progress(
        TextColumn(title), BarColumn(), *counts, console=console, disable=disable, transient=True
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda contacts: progress.advance(task, contacts)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")
