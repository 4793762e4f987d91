"""What a family's newest state adds to the one that the graph shows.

Nearly every change adds one contact or one tie. The events after the version that the graph shows name every change
since. docs/adr/0002 argues why the rest of the family may stay as it is.
"""

from typing import Final

from nexus_graph.graph.states import FamilyState

_UNION: Final = "families_merged"
_EVIDENCE: Final = "evidence_added"
# Events of these kinds only add. Any other kind may remove something.
_ADDING: Final = frozenset({"contact_created", "contact_linked", "union_refused", _EVIDENCE, _UNION})


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
