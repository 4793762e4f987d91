"""identify_batch_v2 decides what identify_batch_v1 decides: the same answers, the same rows, whatever the batches."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import hypothesis.strategies as st
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from nexus_graph.config import Settings

Pair = tuple[str | None, str | None]

_email = st.one_of(st.none(), st.integers(0, 6).map(lambda number: f"e{number}@x.example"))
_phone = st.one_of(st.none(), st.integers(0, 6).map(lambda number: f"100{number}"))
_batches = st.lists(st.tuples(_email, _phone).filter(lambda pair: pair != (None, None)), min_size=1, max_size=8)
_deletions = st.integers(1, 20)
_histories = st.lists(st.one_of(_batches, _batches, _deletions), min_size=1, max_size=12)

_ANSWER = "SELECT outcome, reason, family_id, version, contact_ids, emails, phones"
# Everything but times, which are never the same.
_TABLES = (
    "SELECT id, email, phone_number, linked_id, link_precedence, deleted_at IS NULL FROM contacts ORDER BY id",
    "SELECT pairing, family_id FROM evidence ORDER BY pairing",
    "SELECT seq, kind, family_id, contact_id, other_family_id, cause FROM identity_events ORDER BY seq",
    "SELECT seq, family_id FROM outbox ORDER BY seq",
    "SELECT family_id, survivor_id, version FROM aliases ORDER BY family_id",
)


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


async def told(settings: Settings, function: str, history: list[list[Pair] | int], limit: int) -> list[Any]:
    """What the function answers to each batch in turn, and what the tables hold afterwards."""
    said: list[Any] = []
    async with undone(settings) as connection:
        for step in history:
            if isinstance(step, int):
                await connection.execute("UPDATE contacts SET deleted_at = now() WHERE id = $1", step)
                continue
            emails, phones = [email for email, _ in step], [phone for _, phone in step]
            rows = await connection.fetch(
                f"{_ANSWER} FROM {function}($1, $2, $3, $4)",
                emails,
                phones,
                [None] * len(step),
                limit,
            )
            said.append([tuple(row) for row in rows])
        said.extend([[tuple(row) for row in await connection.fetch(query)] for query in _TABLES])
        moments = [row["at"] for row in await connection.fetch("SELECT at FROM identity_events ORDER BY seq")]
        assert moments == sorted(set(moments))
    return said


@hypothesis_settings(
    max_examples=150,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=_histories, limit=st.sampled_from([2, 3, 5, 1000]))
async def test_both_decide_the_same(settings: Settings, history: list[list[Pair] | int], limit: int) -> None:
    swift = await told(settings, "identify_batch_v2", history, limit)
    careful = await told(settings, "identify_batch_v1", history, limit)
    assert swift == careful
