"""One request after another: identify is the oracle, whatever the requests."""

from itertools import count
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from nexus_graph.identity.opening import Identity
from nexus_graph.model import IdentifyRequest
from nexus_graph.store.database import Pool
from tests.property.oracle import Expected, Oracle

_examples = count()


class Call(NamedTuple):
    """A request over a handful of identifiers, so that families meet often."""

    email: int | None
    phone: int | None


class Deletion(NamedTuple):
    """Soft-delete one of the contacts so far."""

    place: int


_identifier = st.one_of(st.none(), st.integers(0, 6))
_calls = st.builds(Call, _identifier, _identifier).filter(lambda call: call != Call(None, None))
_deletions = st.builds(Deletion, st.integers(0, 50))
_histories = st.lists(st.one_of(_calls, _calls, _calls, _calls, _deletions), min_size=1, max_size=30)


@hypothesis_settings(
    max_examples=150,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=_histories)
async def test_any_history_ends_as_the_oracle_says(
    identity: Identity, pool: Pool, history: list[Call | Deletion]
) -> None:
    namespace = next(_examples)  # examples share a database, not an identifier
    oracle, ids = Oracle(), list[int]()
    for step in history:
        if isinstance(step, Deletion):
            if step.place in oracle.live:
                oracle.delete(step.place)
                await pool.execute("UPDATE contacts SET deleted_at = now() WHERE id = $1", ids[step.place])
        else:
            await _identify_like_the_oracle(identity, oracle, ids, step, namespace)
    await _check_rows(pool, oracle, ids)


async def _identify_like_the_oracle(
    identity: Identity, oracle: Oracle, ids: list[int], call: Call, namespace: int
) -> None:
    email = None if call.email is None else f"e{call.email}@{namespace}.example"
    phone = None if call.phone is None else f"{namespace}00{call.phone}"
    expected = oracle.identify(email, phone)
    answer = await identity.identify(IdentifyRequest(email, phone))
    if len(oracle.rows) > len(ids):
        (new_id,) = {contact.id for contact in answer.family.contacts} - set(ids)
        ids.append(new_id)
    got = Expected(
        answer.outcome.value,
        tuple(ids.index(contact.id) for contact in answer.family.contacts),
        answer.family.emails,
        answer.family.phones,
    )
    assert got == expected


async def _check_rows(pool: Pool, oracle: Oracle, ids: list[int]) -> None:
    """The live rows, grouped by their links, are the oracle's families; the most senior leads, and links are flat."""
    rows = await pool.fetch(
        "SELECT id, linked_id, link_precedence FROM contacts WHERE id = ANY($1) AND deleted_at IS NULL", ids
    )
    heads: dict[int, set[int]] = {}
    for contact_id, linked_id, precedence in rows:
        assert (precedence == "primary") == (linked_id is None)
        heads.setdefault(linked_id or contact_id, set()).add(ids.index(contact_id))
    assert {frozenset(family) for family in heads.values()} == oracle.families()
    assert all(ids.index(head) == min(family) for head, family in heads.items())
