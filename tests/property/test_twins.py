"""identify_in_turn and identify_together decide the same: the same answers and rows, whatever the batches."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from nexus_graph.config import Settings
from tests.property.oracle import Expected, Oracle

Pair = tuple[str | None, str | None]
History = list[list[Pair] | int]
"""Batches, and contacts to be soft-deleted between them."""
Row = tuple[Any, ...]

EXAMPLES = 60
NO_LIMIT = 1000

_email = st.one_of(st.none(), st.integers(0, 6).map(lambda number: f"e{number}@x.example"))
_phone = st.one_of(st.none(), st.integers(0, 6).map(lambda number: f"100{number}"))
_batches = st.lists(st.tuples(_email, _phone).filter(lambda pair: pair != (None, None)), min_size=1, max_size=8)
_deletions = st.integers(1, 20)
_histories = st.lists(st.one_of(_batches, _batches, _deletions), min_size=1, max_size=12)

IN_TURN = "identify_in_turn($1, $2, $3, $4)"
TOGETHER = "identify_together($1, $2, $3, $4, 3)"
TOGETHER_HOWEVER_FEW = "identify_together($1, $2, $3, $4, 1)"

_ANSWER = "SELECT outcome, reason, family_id, version, contact_ids, emails, phones"
# Everything but times, which are never the same.
_TABLES = (
    "SELECT id, email, phone_number, linked_id, link_precedence, deleted_at IS NULL FROM contacts ORDER BY id",
    "SELECT pairing, family_id, request_id FROM evidence ORDER BY pairing",
    "SELECT seq, kind, family_id, contact_id, other_family_id, cause, request_id FROM identity_events ORDER BY seq",
    "SELECT seq, family_id FROM outbox ORDER BY seq",
    "SELECT family_id, survivor_id, version FROM aliases ORDER BY family_id",
)
_TIMES = (
    "SELECT created_at, updated_at FROM contacts ORDER BY id",
    "SELECT seen_at FROM evidence ORDER BY pairing",
    "SELECT at FROM identity_events ORDER BY seq",
    "SELECT queued_at FROM outbox ORDER BY seq",
)


@dataclass
class Told:
    """What a function made of a history."""

    answers: list[list[Row]] = field(default_factory=list)
    """To each batch, in turn."""
    tables: list[list[Row]] = field(default_factory=list)
    """What they hold afterwards."""
    times: list[list[tuple[int, ...]]] = field(default_factory=list)
    """Each by its place among all: who came when, whatever the clock showed."""


@asynccontextmanager
async def undone(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection whose work is undone, ids and all."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("TRUNCATE contacts, evidence, identity_events, outbox, aliases RESTART IDENTITY")
    await connection.execute("ALTER SEQUENCE change_seq RESTART")
    try:
        yield connection
    finally:
        await transaction.rollback()
        await connection.close()


async def told(settings: Settings, function: str, history: History, limit: int, *, each_alone: bool = False) -> Told:
    """`each_alone`: each row of a batch in a call of its own."""
    said = Told()
    asked = 0
    async with undone(settings) as connection:
        for step in history:
            if isinstance(step, int):
                await connection.execute("UPDATE contacts SET deleted_at = now() WHERE id = $1", step)
                continue
            rows = []
            for pairs in [[pair] for pair in step] if each_alone else [step]:
                rows += await connection.fetch(
                    f"{_ANSWER}, created_ats FROM {function}",
                    [email for email, _ in pairs],
                    [phone for _, phone in pairs],
                    [f"{number:032}" for number in range(asked, asked + len(pairs))],
                    limit,
                )
                asked += len(pairs)
            said.answers.append([tuple(row)[:-1] for row in rows])
            for _, _, _, _, ids, _, _, created_ats in rows:
                assert len(created_ats) == len(ids)
        said.tables.extend([[tuple(row) for row in await connection.fetch(query)] for query in _TABLES])
        times = [[tuple(row) for row in await connection.fetch(query)] for query in _TIMES]
        for query in (
            "SELECT at FROM identity_events ORDER BY seq",
            "SELECT created_at FROM contacts ORDER BY id",
        ):
            moments = [row[0] for row in await connection.fetch(query)]
            assert moments == sorted(set(moments))
    order = {moment: place for place, moment in enumerate(sorted(_moments(times)))}
    said.times.extend([[tuple(order[moment] for moment in row) for row in rows] for rows in times])
    return said


def _moments(times: list[list[Row]]) -> set[datetime]:
    return {moment for rows in times for row in rows for moment in row}


@pytest.mark.parametrize("function", [IN_TURN, TOGETHER, TOGETHER_HOWEVER_FEW])
@hypothesis_settings(
    max_examples=150,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=_histories, limit=st.sampled_from([2, 3, 5, NO_LIMIT]))
async def test_both_decide_the_same(settings: Settings, function: str, history: History, limit: int) -> None:
    batch = await told(settings, function, history, limit)
    alone = await told(settings, IN_TURN, history, limit, each_alone=True)
    assert batch == alone


def _batch(rng: random.Random, keys: int, size: int) -> list[Pair]:
    """Few keys: most rows concern one another. Many: hardly any does."""
    return [_pair(rng, keys) for _ in range(size)]


def _pair(rng: random.Random, keys: int) -> Pair:
    email = f"e{rng.randrange(keys)}@x.example" if rng.random() < 0.85 else None
    phone = f"1555{rng.randrange(keys):04}" if email is None or rng.random() < 0.85 else None
    return email, phone


def _history(rng: random.Random) -> History:
    keys = rng.choice([4, 12, 40, 150, 400])
    history: History = []
    for _ in range(rng.randint(1, 8)):
        history.append(_batch(rng, keys, rng.choice([1, 2, 3, 4, 6, 10, 24, 64])))
        history.extend(rng.randint(1, 40) for _ in range(rng.choice([0, 0, 1, 4])))
    return history


async def test_batches_of_any_size_are_decided_row_by_row(settings: Settings, rng: random.Random) -> None:
    """Where hardly any two rows concern each other, and where nearly all do; up to numbers and the order of moments."""
    seen: Counter[str] = Counter()
    for _ in range(EXAMPLES):
        history, limit = _history(rng), rng.choice([2, 3, 6, NO_LIMIT, NO_LIMIT])
        together = await told(settings, TOGETHER, history, limit)
        assert together == await told(settings, TOGETHER_HOWEVER_FEW, history, limit)
        assert together == await told(settings, IN_TURN, history, limit)
        assert together == await told(settings, IN_TURN, history, limit, each_alone=True)
        if limit == NO_LIMIT:
            _check_by_the_oracle(history, together.answers)
        seen.update(row[0] for answers in together.answers for row in answers)
    assert set(seen) == {"CREATED", "LINKED", "MERGED", "MATCHED", "REFUSED"}


def _check_by_the_oracle(history: History, answers: list[list[Row]]) -> None:
    """Contacts are numbered in the order of their creation."""
    oracle, batches = Oracle(), iter(answers)
    for step in history:
        if isinstance(step, int):
            if step - 1 in oracle.live:
                oracle.delete(step - 1)
            continue
        for (email, phone), (outcome, _, family_id, _, ids, emails, phones) in zip(step, next(batches), strict=True):
            assert family_id == ids[0]
            expected = oracle.identify(email, phone)
            places = tuple(number - 1 for number in ids)
            assert expected == Expected(outcome, places, _distinct(emails), _distinct(phones))


def _distinct(values: list[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value is not None))


MEETINGS: dict[str, list[Pair]] = {
    "the same request": [("a@x", "1"), ("b@x", "2"), ("a@x", "1"), ("b@x", "2"), ("c@x", "3")],
    "the same new email": [("a@x", "1"), ("b@x", "2"), ("a@x", "3"), ("d@x", "4"), ("a@x", None)],
    "the same new phone": [("a@x", "1"), ("b@x", "2"), ("c@x", "1"), ("d@x", "4"), (None, "1")],
    "two unions of the same families": [("k1@x", "102"), ("a@x", "1"), ("k2@x", "101"), ("k1@x", "102")],
    "a chain of unions": [("k1@x", "102"), ("k2@x", "103"), ("k3@x", "104"), ("k4@x", "105"), ("k5@x", "101")],
    "unions beside one another": [("k1@x", "102"), ("k3@x", "104"), ("k5@x", "106"), ("k7@x", "108")],
    "a union that takes in who was new": [("n@x", "9"), ("a@x", "1"), ("b@x", "2"), ("n@x", "101")],
    "links to one family": [("k1@x", "9"), ("k2@x", "8"), ("k3@x", "7"), ("k1@x", "6"), ("k1@x", "5")],
    "links to both of a union": [("k1@x", "9"), ("k2@x", "8"), ("k3@x", "7"), ("k1@x", "102"), ("new@x", "8")],
    "a pairing after a union": [("k1@x", "102"), ("a@x", "1"), ("b@x", "2"), ("k2@x", "101"), ("k1@x", "102")],
    "a family read, then changed": [("k1@x", "101"), ("k2@x", "102"), ("k3@x", "103"), ("k1@x", "9"), ("k1@x", None)],
    "one of them absent": [("a@x", None), (None, "1"), ("b@x", None), (None, "2"), ("c@x", None), (None, "3")],
    "deleted identifiers": [
        ("k9@x", "9"),
        ("k9@x", None),
        (None, "109"),
        ("k9@x", "101"),
        ("a@x", "1"),
        ("b@x", "109"),
    ],
}


@pytest.mark.parametrize("meeting", MEETINGS)
async def test_rows_that_concern_each_other_are_decided_in_turn(settings: Settings, meeting: str) -> None:
    """Each k<n> stands with 10<n>; k9 is in k8's family, and its contact was deleted."""
    known: list[Pair] = [(f"k{number}@x", f"10{number}") for number in range(1, 9)]
    history: History = [known, [("k8@x", "109")], [("k9@x", "109")], 10, MEETINGS[meeting], MEETINGS[meeting]]
    for limit in (2, 3, NO_LIMIT):
        together = await told(settings, TOGETHER, history, limit)
        assert together == await told(settings, IN_TURN, history, limit, each_alone=True)


async def test_a_row_that_fails_leaves_nothing_of_its_batch(settings: Settings) -> None:
    async with undone(settings) as connection:
        await connection.execute("ALTER TABLE contacts ADD CONSTRAINT no_thirteen CHECK (phone_number <> '13')")
        with pytest.raises(asyncpg.CheckViolationError):
            async with connection.transaction():
                await connection.fetch(
                    f"{_ANSWER} FROM identify_together($1, $2, $3, 9, 3)",
                    [None] * 5,
                    ["11", "12", "13", "14", "15"],
                    [None] * 5,
                )
        assert await connection.fetchval("SELECT count(*) FROM contacts") == 0
