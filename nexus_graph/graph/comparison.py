"""What differs between a family in the record and the same family in the graph."""

from collections.abc import Callable
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple

from neo4j import AsyncDriver

from nexus_graph.graph.driver import ask
from nexus_graph.graph.states import FamilyState

VERIFY_TIMEOUT_SECONDS: Final = 60.0
"""Seconds of one query of verify, on a graph that has other work."""


# Columns of a member as `verify_families` returns it, and what to call a difference in each.
_MEMBER_COLUMNS: Final = ("members", "email", "phoneNumber", "linkPrecedence", "createdAt", "contact version", "edges")
_BY_ID: Final = itemgetter(0)
_BY_PAIR: Final = itemgetter(0, 1)


class Shown(NamedTuple):
    """A family as the graph shows it: `verify_families` says what each value is."""

    id: int
    version: int | None
    size: int | None
    tombstone: bool | None
    residents: int
    members: list[list[Any]]
    ties: list[list[Any]]


async def read_shown(driver: AsyncDriver, states: list[FamilyState]) -> dict[int, Shown]:
    """What the graph shows of each of these families, by id. Raises what the driver raises."""
    asked = [[state["id"], state["live"]] for state in states]
    (rows,) = await ask(driver, "verify_families", {"families": asked}, timeout_seconds=VERIFY_TIMEOUT_SECONDS)
    return {row[0]: Shown(*row) for row in rows}


def differences(state: FamilyState, shown: Shown) -> tuple[str, ...]:
    """The names of what differs, none if the graph shows this state."""
    if shown.version is None:
        return ("missing",)
    found = []
    if shown.tombstone is state["live"]:
        found.append("tombstone")
    if shown.version != state["version"]:
        found.append("version")
    if (shown.size or 0) != state["size"]:
        found.append("size")
    if shown.residents != state["size"]:
        found.append("residents")
    found += _in_members(_members_of(state), shown.members)
    if _sorted(shown.ties, _BY_PAIR) != _ties_of(state):
        found.append("ties")
    return tuple(found)


def _in_members(wanted: list[list[Any]], shown: list[list[Any]]) -> list[str]:
    shown = _sorted(shown, _BY_ID)
    if shown == wanted:
        return []
    if [member[0] for member in shown] != [member[0] for member in wanted]:
        return ["members"]
    return [
        name
        for column, name in enumerate(_MEMBER_COLUMNS)
        if any(one[column] != other[column] for one, other in zip(shown, wanted, strict=True))
    ]


def _members_of(state: FamilyState) -> list[list[Any]]:
    precedences = chain(["primary"], repeat("secondary"))
    columns = zip(state["ids"], state["emails"], state["phones"], precedences, state["micros"], strict=False)
    return _sorted([[*member, True, True] for member in columns], _BY_ID)


def _ties_of(state: FamilyState) -> list[list[Any]]:
    columns = zip(state["pairs"], state["tie_micros"], state["tie_requests"], strict=True)
    return _sorted([[*pair, micros, request, True] for pair, micros, request in columns], _BY_PAIR)


def _sorted(rows: list[list[Any]], key: Callable[[list[Any]], Any]) -> list[list[Any]]:
    """By what names them; as they came where something nameless is among them, which differs anyway."""
    try:
        return sorted(rows, key=key)
    except TypeError:
        return rows
