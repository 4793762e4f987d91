"""Judge a recorded concurrent history: could a linearizable identify have given it? (Invariants 1 to 4 of the design.)

Every check can only prove a history wrong. Together they leave little room: answers are replayed through the sequential
oracle in the order of their versions, and real time must agree with that order.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from nexus_graph.store.database import Pool
from tests.property.oracle import Oracle

Identifier = tuple[str, str]


@dataclass(frozen=True)
class Answered:
    """One acknowledged call. `version` and `outcome` are None where the transport does not tell them (REST)."""

    sent: float
    answered: float
    email: str | None
    phone: str | None
    contacts: tuple[int, ...]
    emails: tuple[str, ...]
    phones: tuple[str, ...]
    outcome: str | None = None
    version: int | None = None

    @property
    def identifiers(self) -> list[Identifier]:
        named = (("email", self.email), ("phone", self.phone))
        return [(kind, value) for kind, value in named if value is not None]


def violations(history: list[Answered]) -> list[str]:
    """What is wrong with the answers alone."""
    return [
        *_own_identifiers(history),
        *_laminar(history),
        *_monotone(history),
        *_one_state_a_version(history),
        *_replay(history),
    ]


def _own_identifiers(history: list[Answered]) -> Iterable[str]:
    for call in history:
        if call.email is not None and call.email not in call.emails:
            yield "an answer lacks its caller's email"
        if call.phone is not None and call.phone not in call.phones:
            yield "an answer lacks its caller's phone"
        if call.contacts[0] != min(call.contacts):
            yield f"contact {call.contacts[0]} leads a family with an older one in it"
        if list(call.contacts[1:]) != sorted(call.contacts[1:]):
            yield f"the secondaries of {call.contacts[0]} are out of order"


def _laminar(history: list[Answered]) -> Iterable[str]:
    """Any two answers' contact sets are nested or disjoint.

    Sets are taken by size; each contact remembers the last that held it. Of such a set all or nothing may come again.
    """
    last: dict[int, frozenset[int]] = {}
    for members in sorted({frozenset(call.contacts) for call in history}, key=len):
        seen_again = Counter(id(last[contact]) for contact in members if contact in last)
        for contact in members:
            if contact in last and seen_again[id(last[contact])] != len(last[contact]):
                yield f"two answers overlap at contact {contact} and neither holds the other"
        last.update(dict.fromkeys(members, members))


def _monotone(history: list[Answered]) -> Iterable[str]:
    """What a call answered, every later call that shares an identifier answers too."""
    by_identifier: dict[Identifier, list[Answered]] = defaultdict(list)
    for call in history:
        for identifier in call.identifiers:
            by_identifier[identifier].append(call)
    for calls in by_identifier.values():
        in_order = sorted(calls, key=lambda call: call.sent)
        finished = sorted(calls, key=lambda call: call.answered)
        known: set[int] = set()
        done = 0
        for call in in_order:
            while finished[done].answered < call.sent:
                known |= set(finished[done].contacts)
                done += 1
            if not known <= set(call.contacts):
                yield f"an answer about the family of {call.contacts[0]} forgot contacts an earlier answer had"


def _one_state_a_version(history: list[Answered]) -> Iterable[str]:
    states: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for call in history:
        if call.version is not None:
            states[call.version].add(call.contacts)
    for version, seen in states.items():
        if len(seen) > 1:
            yield f"version {version} was answered with {len(seen)} different families"


def _replay(history: list[Answered]) -> Iterable[str]:
    """Versions order all changes; replayed in that order, the oracle gives the same answers."""
    told = [call for call in history if call.version is not None]
    if len(told) != len(history):
        return
    told.sort(key=lambda call: (call.version, call.outcome == "MATCHED", call.answered))
    oracle, ids = Oracle(), list[int]()
    for call in told:
        expected = oracle.identify(call.email, call.phone)
        new = set(call.contacts) - set(ids)
        if len(oracle.rows) > len(ids) and len(new) == 1:
            ids.extend(new)
        if len(oracle.rows) != len(ids):
            yield f"no sequential order explains version {call.version}"
            return
        if (call.outcome, call.contacts) != (expected.outcome, tuple(ids[place] for place in expected.contacts)):
            yield f"at version {call.version} the answer was not the one a sequential identify gives"
            return


async def final_state_violations(pool: Pool, history: list[Answered]) -> list[str]:
    """What is wrong with the record once all is quiet: its families against the components of everything asked."""
    rows = await pool.fetch(
        "SELECT id, email, phone_number, linked_id, created_at, link_precedence FROM contacts WHERE deleted_at IS NULL"
    )
    heads = {row["id"] for row in rows if row["linked_id"] is None}
    found = [f"contact {row['id']} is linked to a secondary" for row in rows if row["linked_id"] not in {None} | heads]
    of_identifier: dict[Identifier, set[int]] = defaultdict(set)
    members: dict[int, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        head = row["linked_id"] or row["id"]
        members[head].append(row)
        for identifier in (("email", row["email"]), ("phone", row["phone_number"])):
            if identifier[1] is not None:
                of_identifier[identifier].add(head)
    found += [f"an identifier is in {len(split)} families" for split in of_identifier.values() if len(split) > 1]
    for head, family in members.items():
        if min((row["created_at"], row["id"]) for row in family)[1] != head:
            found.append(f"the primary {head} is not its family's most senior contact")
    found += _components_against(of_identifier, history)
    stamps = [row["created_at"] for row in sorted(rows, key=lambda row: row["id"])]
    if stamps != sorted(set(stamps)):
        found.append("created_at does not follow the order of the ids")
    return found


def _components_against(of_identifier: dict[Identifier, set[int]], history: list[Answered]) -> Iterable[str]:
    parent: dict[Identifier, Identifier] = {}

    def root(token: Identifier) -> Identifier:
        while parent.setdefault(token, token) != token:
            parent[token] = parent[parent[token]]
            token = parent[token]
        return token

    for call in history:
        for identifier in call.identifiers:
            parent[root(identifier)] = root(call.identifiers[0])
    component_heads: dict[Identifier, set[int]] = defaultdict(set)
    head_components: dict[int, set[Identifier]] = defaultdict(set)
    for identifier in list(parent):
        if identifier not in of_identifier:
            yield "an acknowledged identifier is in no family"
        for head in of_identifier.get(identifier, ()):
            component_heads[root(identifier)].add(head)
            head_components[head].add(root(identifier))
    if any(len(split) > 1 for split in component_heads.values()):
        yield "what the requests tied is in more than one family"
    if any(len(glued) > 1 for glued in head_components.values()):
        yield "one family holds what no request tied"
