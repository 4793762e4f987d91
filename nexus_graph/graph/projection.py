"""The projection: family states of the record, written to the graph. Relay, rebuild and repair share it.

Applying a state twice, or an older one after a newer, leaves the same graph: every step compares versions under the
lock of the node it writes (docs/adr/0002). All steps of a batch are one transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from neo4j import AsyncDriver, AsyncManagedTransaction

from nexus_graph.config import Settings
from nexus_graph.graph.driver import run, write
from nexus_graph.graph.states import FamilyState

_HEADS: Final = ("id", "version", "live", "size")
_CONTACTS: Final = ("id", "version", "ids", "emails", "phones", "micros")
_TIES: Final = ("id", "version", "pairs", "tie_micros", "tie_requests")
_KEPT_CONTACTS: Final = ("id", "version", "ids")
_KEPT_TIES: Final = ("id", "version", "pairs")


async def project(driver: AsyncDriver, states: Sequence[FamilyState], settings: Settings) -> int:
    """Make the graph show these states, all read in one snapshot, but where it shows a newer one. How many were taken.

    Raises what the driver raises; then nothing of the batch is in the graph, or its connection broke during the commit.
    """
    ordered = sorted(states, key=lambda state: state["id"])  # one order of locks for all who write
    return await write(driver, settings, _project, ordered)


async def warm(driver: AsyncDriver, settings: Settings) -> None:
    """Let the graph's server plan every step before there is work: cold, that can take it seconds. Raises what the
    driver raises.
    """
    await write(driver, settings, _plan_all)


async def _plan_all(transaction: AsyncManagedTransaction) -> None:
    for step in ("claim_families", "project_contacts", "project_ties", "drop_stray_contacts", "drop_stray_ties"):
        await run(transaction, step, families=[])
    await run(transaction, "drop_orphans", identifiers=[])


async def _project(transaction: AsyncManagedTransaction, states: Sequence[FamilyState]) -> int:
    live = [state for state in states if state["live"]]
    taken: int = await run(transaction, "claim_families", families=_parts(states, _HEADS))
    loose: list[str] = []
    # Living families first, so that a survivor has taken its contacts over before the merged family is emptied.
    if live:
        loose += await run(transaction, "project_contacts", families=_parts(live, _CONTACTS))
    if tied := [state for state in live if state["pairs"]]:
        await run(transaction, "project_ties", families=_parts(tied, _TIES))
    loose += await run(transaction, "drop_stray_contacts", families=_parts(states, _KEPT_CONTACTS))
    loose += await run(transaction, "drop_stray_ties", families=_parts(states, _KEPT_TIES))
    if loose:
        await run(transaction, "drop_orphans", identifiers=loose)
    return taken


def _parts(states: Sequence[FamilyState], names: tuple[str, ...]) -> list[Mapping[str, object]]:
    """What one statement needs of the states, and no more: it all goes over the wire."""
    return [{name: state[name] for name in names} for state in states]  # type: ignore[literal-required]
