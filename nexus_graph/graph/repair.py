"""repair: mend the findings of verify, by the relay's projection."""

from collections.abc import Sequence
from typing import Any, Final

from neo4j import AsyncDriver, AsyncManagedTransaction

from nexus_graph.config import Settings
from nexus_graph.graph.driver import run, write
from nexus_graph.graph.projection import project
from nexus_graph.graph.states import FamilyState, bounded, read_states
from nexus_graph.graph.verify import Finding
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool

_BATCH_FAMILIES: Final = 50
"""Families of one transaction of repair: few, as the relay works on the same families meanwhile."""

PASSES_MAX: Final = 10
"""Passes of repair before it reports what is left."""


async def repair(pool: Pool, driver: AsyncDriver, settings: Settings, findings: Sequence[Finding]) -> None:
    """Write the record's state again for each finding. Raises what the drivers raise.

    A finding that remains is a fault of the record itself, and verify reports it again.
    """
    refs: dict[str, list[Any]] = {kind: [] for kind in ("family", "contact", "identifier", "tie", "node")}
    for finding in findings:
        refs[finding.kind].append(finding.ref)
    # Asked again: a contact of the record that belongs to no family is the record's fault, not the graph's.
    refs["contact"] = await pool.fetchval(sql("verify_contacts"), refs["contact"])
    strange_families = await pool.fetchval(sql("verify_families"), refs["family"])
    await write(driver, settings, lambda transaction: _drop(transaction, refs, strange_families))
    refs["family"] = sorted(set(refs["family"]).difference(strange_families))
    for start in range(0, len(refs["family"]), _BATCH_FAMILIES):
        states = await read_states(pool, refs["family"][start : start + _BATCH_FAMILIES])
        for batch in bounded(states):
            await _project_again(driver, batch, settings)


async def _project_again(driver: AsyncDriver, states: list[FamilyState], settings: Settings) -> None:
    # Versions come from the record and only grow: a greater version in the graph is wrong. If the relay wrote a newer
    # version a moment ago, this step sets the family back, and the next pass of verify finds that.
    families = [{name: state[name] for name in ("id", "version", "ids", "pairs")} for state in states]
    await write(driver, settings, lambda transaction: run(transaction, "lower_versions", families=families))
    await project(driver, states, settings, whole=True)


async def _drop(transaction: AsyncManagedTransaction, refs: dict[str, list[Any]], families: list[int]) -> None:
    loose = await run(
        transaction, "drop_strangers", contacts=refs["contact"], families=families, ties=refs["tie"], nodes=refs["node"]
    )
    await run(transaction, "drop_orphans", identifiers=[*loose, *refs["identifier"]])
