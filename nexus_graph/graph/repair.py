"""repair: mend what verify found, by the same projection that the relay uses."""

from collections.abc import Sequence
from typing import Any

from neo4j import AsyncDriver, AsyncManagedTransaction

from nexus_graph.config import Settings
from nexus_graph.graph.driver import run, write
from nexus_graph.graph.findings import Finding
from nexus_graph.graph.projection import project
from nexus_graph.graph.states import FamilyState, bounded, read_states
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool


async def repair(pool: Pool, driver: AsyncDriver, settings: Settings, findings: Sequence[Finding]) -> None:
    """Make the graph show the record again wherever it was found to differ. Raises what the drivers raise.

    What it cannot mend is a fault of the record itself; verify goes on reporting that.
    """
    refs: dict[str, list[Any]] = {kind: [] for kind in ("family", "contact", "identifier", "tie", "node")}
    for finding in findings:
        refs[finding.kind].append(finding.ref)
    # Asked again: a contact that the record has, in no family of it, is not the graph's fault.
    refs["contact"] = await pool.fetchval(sql("verify_contacts"), refs["contact"])
    strange_families = await pool.fetchval(sql("verify_families"), refs["family"])
    await write(driver, settings, _drop, refs, strange_families)
    refs["family"] = sorted(set(refs["family"]).difference(strange_families))
    for start in range(0, len(refs["family"]), settings.repair_batch_families):
        states = await read_states(pool, refs["family"][start : start + settings.repair_batch_families])
        for batch in bounded(states, settings.graph_batch_contacts):
            await _project_again(driver, batch, settings)


async def _project_again(driver: AsyncDriver, states: list[FamilyState], settings: Settings) -> None:
    # The record's versions only grow and the graph's come from it: a greater one in the graph is wrong. Should the
    # relay have brought a newer one just now, this sets the family back; the next pass of verify would see it.
    families = [{name: state[name] for name in ("id", "version", "ids", "pairs")} for state in states]
    await write(driver, settings, run, "lower_versions", families=families)
    await project(driver, states, settings, whole=True)


async def _drop(transaction: AsyncManagedTransaction, refs: dict[str, list[Any]], families: list[int]) -> None:
    loose = await run(
        transaction,
        "drop_strangers",
        contacts=refs["contact"],
        families=families,
        ties=refs["tie"],
        nodes=refs["node"],
    )
    await run(transaction, "drop_orphans", identifiers=[*loose, *refs["identifier"]])
