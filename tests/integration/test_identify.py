"""The write path at its edges: refusals, poison rows, lost connections, callers that leave, queues that fill."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from nexus_graph.config import Settings
from nexus_graph.errors import Overloaded, RowRejected, Unavailable
from nexus_graph.identity.opening import Identity, open_identity
from nexus_graph.model import DATE_OMITTED, Identification, IdentifyRequest, Outcome
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool

WRITE_LOCK = 474219276659


async def _ask(identity: Identity, email: str | None, phone: str | None) -> Identification:
    return await identity.identify(IdentifyRequest(email, phone))


async def _rows(pool: Pool) -> dict[str, int]:
    """How many rows each table has."""
    tables = ("contacts", "evidence", "identity_events", "aliases")
    return {table: await pool.fetchval(f"SELECT count(*) FROM {table}") for table in tables}


@asynccontextmanager
async def _write_lock_held(pool: Pool) -> AsyncIterator[None]:
    """Nobody writes meanwhile."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", WRITE_LOCK)
        yield


async def _waiting_backends(pool: Pool, count: int) -> Sequence[int]:
    """The backends that wait for the write lock, once there are `count`."""
    async with asyncio.timeout(5):
        while True:
            rows = await pool.fetch(
                "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
            )
            if len(rows) >= count:
                return [row["pid"] for row in rows]


async def test_the_same_request_again_changes_nothing(identity: Identity, pool: Pool) -> None:
    pairs = [("a@x.example", "111"), ("b@x.example", "222"), ("a@x.example", "222"), ("c@x.example", "111")]
    first = [await _ask(identity, *pair) for pair in pairs]
    assert [answer.outcome.value for answer in first] == ["CREATED", "CREATED", "MERGED", "LINKED"]
    before = await _rows(pool)
    again = [await _ask(identity, *pair) for pair in pairs]
    assert {answer.outcome for answer in again} == {Outcome.MATCHED}
    assert {answer.family.version for answer in again} == {first[-1].family.version}
    assert await _rows(pool) == before


async def test_who_asks_in_brief_does_not_keep_others_from_version_and_dates(identity: Identity) -> None:
    made = (await _ask(identity, "a@x.example", "111")).family
    brief, full = IdentifyRequest("a@x.example", "111", brief=True), IdentifyRequest("a@x.example", "111")
    told = (await identity.identify(brief)).family
    assert (told.version, told.primary.created_at) == (0, DATE_OMITTED)
    assert (told.ids, told.emails, told.phones) == (made.ids, made.emails, made.phones)
    for together in ([brief, full], [full, brief]):  # one batch: asked in one turn of the loop
        answers = await asyncio.gather(*map(identity.identify, together))
        assert [answer.family for answer in answers] == [made, made]


async def test_a_union_past_the_limit_is_refused_and_told_once(settings: Settings, pool: Pool) -> None:
    async with open_identity(settings.model_copy(update={"family_limit_contacts": 3})) as identity:
        for email, phone in [
            ("a@x.example", "11"),
            ("a2@x.example", "11"),
            ("b@x.example", "22"),
            ("b2@x.example", "22"),
        ]:
            await _ask(identity, email, phone)
        refused = await _ask(identity, "a@x.example", "22")
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, "FAMILY_LIMIT")
        assert refused.family.emails == ("a@x.example", "a2@x.example")
        before = await _rows(pool)
        assert (await _ask(identity, "a@x.example", "22")).outcome is Outcome.REFUSED
        assert await _rows(pool) == before
    told = await pool.fetch(
        "SELECT family_id, other_family_id, cause FROM identity_events WHERE kind = 'union_refused'"
    )
    assert [tuple(row) for row in told] == [(1, 3, "FAMILY_LIMIT")]
    assert (await pool.fetchval("SELECT count(*) FROM contacts WHERE linked_id IS NULL")) == 2


async def test_what_a_full_family_cannot_take_stands_apart(settings: Settings, pool: Pool) -> None:
    async with open_identity(settings.model_copy(update={"family_limit_contacts": 2})) as identity:
        await _ask(identity, "info@x.example", "11")
        await _ask(identity, "info@x.example", "22")
        refused = await _ask(identity, "info@x.example", "33")
        assert (refused.outcome, refused.reason) == (Outcome.REFUSED, "FAMILY_LIMIT")
        assert refused.family.phones == ("33",)
        assert refused.family.emails == ()
        before = await _rows(pool)
        assert (await _ask(identity, "info@x.example", "33")).outcome is Outcome.REFUSED
        assert await _rows(pool) == before


@pytest.mark.parametrize(
    "poison",
    ["nul\x00@x.example", "surrogate\ud800@x.example", "long" * 100 + "@x.example"],
    ids=["nul", "lone surrogate", "too long for the column"],
)
async def test_a_poison_row_fails_alone(identity: Identity, pool: Pool, poison: str) -> None:
    """Validation keeps such values out; were one to slip through, only its own caller would notice."""
    async with _write_lock_held(pool):
        first = asyncio.create_task(_ask(identity, "first@x.example", None))
        await _waiting_backends(pool, 1)
        # These wait for the first batch, so they share the second.
        good = [asyncio.create_task(_ask(identity, f"good{n}@x.example", None)) for n in range(5)]
        bad = asyncio.create_task(_ask(identity, poison, None))
        more = [asyncio.create_task(_ask(identity, f"more{n}@x.example", None)) for n in range(5)]
    with pytest.raises(RowRejected):
        await bad
    answers = await asyncio.gather(first, *good, *more)
    assert {answer.outcome for answer in answers} == {Outcome.CREATED}
    assert (await _rows(pool))["contacts"] == 11


async def test_a_row_the_database_refuses_fails_alone(identity: Identity, pool: Pool) -> None:
    await pool.execute("ALTER TABLE contacts ADD CONSTRAINT no_thirteen CHECK (phone_number <> '13')")
    async with _write_lock_held(pool):
        tasks = [asyncio.create_task(_ask(identity, None, str(number))) for number in range(10, 20)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(answer, RowRejected) for answer in answers] == [number == 13 for number in range(10, 20)]


async def test_a_lost_connection_is_not_the_callers_trouble(identity: Identity, pool: Pool) -> None:
    async with _write_lock_held(pool):
        asked = asyncio.create_task(_ask(identity, "a@x.example", "11"))
        (backend,) = await _waiting_backends(pool, 1)
        await pool.execute("SELECT pg_terminate_backend($1)", backend)
        async with asyncio.timeout(5):
            while (await _waiting_backends(pool, 1))[0] == backend:
                pass
    assert (await asked).outcome is Outcome.CREATED
    assert (await _rows(pool))["contacts"] == 1


async def test_twice_lost_is_unavailable(identity: Identity, pool: Pool) -> None:
    async with _write_lock_held(pool):
        asked = asyncio.create_task(_ask(identity, "a@x.example", "11"))
        (first,) = await _waiting_backends(pool, 1)
        await pool.execute("SELECT pg_terminate_backend($1)", first)
        async with asyncio.timeout(5):
            while (second := (await _waiting_backends(pool, 1))[0]) == first:
                pass
        await pool.execute("SELECT pg_terminate_backend($1)", second)
        with pytest.raises(Unavailable):
            await asked
    assert (await _rows(pool))["contacts"] == 0


async def test_a_caller_that_leaves_takes_nobody_along(identity: Identity, pool: Pool) -> None:
    async with _write_lock_held(pool):
        callers = [asyncio.create_task(_ask(identity, f"e{n}@x.example", None)) for n in range(20)]
        await _waiting_backends(pool, 1)
        for caller in callers[::2]:
            caller.cancel()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [n % 2 == 0 for n in range(20)]
    # The path still works, and those who stayed were answered.
    assert (await _ask(identity, "e1@x.example", None)).outcome is Outcome.MATCHED


async def test_a_full_queue_refuses_at_once(settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_graph.gather.bounds.REQUESTS_MAX", 1)
    monkeypatch.setattr("nexus_graph.gather.bounds.QUEUE_MAX", 3)
    async with open_identity(settings) as identity:
        async with _write_lock_held(pool):
            served = [asyncio.create_task(_ask(identity, "e0@x.example", None))]
            await _waiting_backends(pool, 1)
            for number in range(1, 4):
                served.append(asyncio.create_task(_ask(identity, f"e{number}@x.example", None)))
                await _queued(identity, number)
            with pytest.raises(Overloaded):
                await _ask(identity, "one-too-many@x.example", None)
        assert [answer.outcome for answer in await asyncio.gather(*served)] == [Outcome.CREATED] * 4


async def _queued(identity: Identity, number: int) -> None:
    async with asyncio.timeout(5):
        while len(identity.identify._unknown._admission.waiting) < number:
            await identity.record.fetch(
                sql("record_condition")
            )  # a round trip: the time that requests take to come this far


@pytest.mark.parametrize("call", ["identify_in_turn({}, 9)", "identify_together({}, 9, 3)"])
async def test_writers_refuse_another_isolation(pool: Pool, call: str) -> None:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        with pytest.raises(asyncpg.InvalidTransactionStateError):
            await connection.fetch(
                f"SELECT * FROM {call}".format("ARRAY['a@x.example'], ARRAY['1'], ARRAY[NULL]::uuid[]")
            )


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO contacts (email, link_precedence) VALUES ('a@x.example', 'primary')",
        "UPDATE contacts SET email = 'b@x.example'",
        "DELETE FROM contacts",
        "INSERT INTO outbox (seq, family_id, queued_at) VALUES (1, 1, now())",
        "UPDATE evidence SET family_id = 1",
    ],
)
async def test_the_api_has_no_direct_hand_in_the_record(identity: Identity, statement: str) -> None:
    with pytest.raises(Unavailable) as refused:
        await identity.record.fetch(statement)
    assert isinstance(refused.value.__cause__, asyncpg.InsufficientPrivilegeError)
