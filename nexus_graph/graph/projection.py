"""The projection: family states of the record, written to the graph. Relay, rebuild and repair share it.

For a family that only grew since the version in the graph, the projection writes the additions and touches nothing
else. Nearly every change adds one contact or one tie, and the events after the version that the graph shows name every
change since. docs/adr/0002 argues why the rest of the family may stay as it is.

The same state twice, or an older state after a newer one, leaves the same graph: every step compares versions under the
lock of the node that the step writes (docs/adr/0002). All steps of a batch are one transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from neo4j import AsyncDriver, AsyncManagedTransaction

from nexus_graph.config import Settings
from nexus_graph.graph.driver import run, write
from nexus_graph.graph.states import FamilyState

_HEADS: Final = ("id", "version", "live", "size")
_CONTACTS: Final = ("id", "version", "ids", "emails", "phones", "micros")
_TIES: Final = ("id", "version", "pairs", "tie_micros", "tie_requests")
_KEPT: Final = ("id", "ids", "pairs")
_OF_CONTACTS: Final = ("ids", "emails", "phones", "micros", "joined")
_OF_TIES: Final = ("pairs", "tie_micros", "tie_requests")

_UNION: Final = "families_merged"
_EVIDENCE: Final = "evidence_added"
# Events of these kinds only add. Any other kind may remove something.
_ADDING: Final = frozenset({"contact_created", "contact_linked", "union_refused", _EVIDENCE, _UNION})


async def project(
    driver: AsyncDriver, states: Sequence[FamilyState], settings: Settings, *, whole: bool = False
) -> int:
    """Write these states, all of one snapshot; skip a family of which the graph has a newer version. Returns how many
    were written.

    Without `whole` the projection trusts that the graph holds what a family's version stands for; with `whole` it
    writes every part again. Raises what the driver raises; then the graph holds nothing of the batch, or the connection
    broke during the commit.
    """
    ordered = sorted(states, key=lambda state: state["id"])  # all writers lock in this order
    return await write(driver, settings, lambda transaction: _project(transaction, ordered, whole=whole))


async def warm(driver: AsyncDriver, settings: Settings) -> None:
    """Let Neo4j plan every step before there is work: first plans can take seconds. Raises what the driver raises."""
    await write(driver, settings, _plan_all)


async def _plan_all(transaction: AsyncManagedTransaction) -> None:
    await run(transaction, "claim_families", families=[])
    await run(transaction, "project_families", contacts=[], ties=[], swept=[])


async def _project(transaction: AsyncManagedTransaction, states: Sequence[FamilyState], *, whole: bool = False) -> int:
    taken = await run(transaction, "claim_families", families=_parts(states, _HEADS))
    shown = {family_id: (version, size) for family_id, version, size in taken}
    written, swept = _divided([state for state in states if state["id"] in shown], shown, whole=whole)
    contacts = _parts([state for state in written if state["ids"]], _CONTACTS)
    ties = _parts([state for state in written if state["pairs"]], _TIES)
    if contacts or ties or swept:
        await run(transaction, "project_families", contacts=contacts, ties=ties, swept=_parts(swept, _KEPT))
    return len(shown)


def _divided(
    states: Sequence[FamilyState], shown: Mapping[int, tuple[int | None, int | None]], *, whole: bool
) -> tuple[list[FamilyState], list[FamilyState]]:
    """The parts of these states to write, and the states that may have to remove something from the graph."""
    written, swept = [], []
    for state in states:
        version, size = shown[state["id"]]
        only = None
        if not whole and state["live"] and version is not None and size is not None:
            only = additions(state, version, size)
        written.append(only or state)
        # A family that is new to the graph has nothing there to remove.
        if only is None and (whole or version is not None):
            swept.append(state)
    return written, swept


def _parts(states: Sequence[FamilyState], names: tuple[str, ...]) -> list[Mapping[str, object]]:
    """The columns that one statement needs: every column goes over the wire."""
    return [{name: state[name] for name in names} for state in states]  # type: ignore[literal-required]


def additions(state: FamilyState, shown_version: int, shown_size: int) -> FamilyState | None:
    """The state reduced to the contacts and ties that came after `shown_version`; None if the reduction is not certain.

    The reduction is not certain if the state's events do not include `shown_version`, if a later event removed
    something, or if the counts do not add up to the family in the record.
    """
    if shown_version not in state["event_seqs"]:
        return None
    newer = state["event_seqs"].index(shown_version)
    kinds = state["event_kinds"][:newer]
    if not _ADDING.issuperset(kinds):
        return None
    since = state["event_micros"][newer]
    contacts = [place for place, moment in enumerate(state["joined"]) if moment > since]
    ties = [place for place, moment in enumerate(state["tie_micros"]) if moment > since]
    if not _adds_up(state["size"] - shown_size, len(contacts), kinds.count(_EVIDENCE), len(ties)):
        return None
    if _UNION in kinds:
        # A union brings the other family's ties, and each keeps the time of its first request.
        ties = list(range(len(state["pairs"])))
    return _only(state, contacts, ties)


def _adds_up(grown: int, contacts: int, sightings: int, ties: int) -> bool:
    """True if the events account for every row. A row written by hand, or a clock set back, leaves no event."""
    return grown == contacts and sightings <= ties


def _only(state: FamilyState, contacts: list[int], ties: list[int]) -> FamilyState:
    reduced: dict[str, Any] = {**state}
    for names, places in ((_OF_CONTACTS, contacts), (_OF_TIES, ties)):
        reduced |= {name: [reduced[name][place] for place in places] for name in names}
    return cast("FamilyState", reduced)
