"""What a family's newest state adds to the one that the graph shows.

Nearly every change adds one contact or one tie. The record's events say which: those after the version that the graph
shows are all there was. docs/adr/0002 argues why the rest may stay as it is.
"""

from typing import Final

from nexus_graph.graph.states import FamilyState

_UNION: Final = "families_merged"
_EVIDENCE: Final = "evidence_added"
# After these a family holds all that it held before. Whatever else may come to be is not among them.
_ADDING: Final = frozenset({"contact_created", "contact_linked", "union_refused", _EVIDENCE, _UNION})


def additions(state: FamilyState, shown_version: int, shown_size: int) -> FamilyState | None:
    """The state with only those contacts and ties that came after `shown_version`; None if that is not certain.

    It is not if the version is none of the events that the state brings, if one since then took something away, or if
    the numbers do not add up to the family that the record has.
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
        # The other family's ties came along, and keep the time when they were seen.
        ties = list(range(len(state["pairs"])))
    return _only(state, contacts, ties)


def _adds_up(grown: int, contacts: int, sightings: int, ties: int) -> bool:
    """Is what was found all there is to find? Rows that came past the verbs, or times put back, have no event."""
    return grown == contacts and sightings <= ties


def _only(state: FamilyState, contacts: list[int], ties: list[int]) -> FamilyState:
    return {
        **state,
        "ids": [state["ids"][place] for place in contacts],
        "emails": [state["emails"][place] for place in contacts],
        "phones": [state["phones"][place] for place in contacts],
        "micros": [state["micros"][place] for place in contacts],
        "joined": [state["joined"][place] for place in contacts],
        "pairs": [state["pairs"][place] for place in ties],
        "tie_micros": [state["tie_micros"][place] for place in ties],
        "tie_requests": [state["tie_requests"][place] for place in ties],
    }
