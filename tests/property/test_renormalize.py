"""renormalize against identify: a record of old spellings ends as if its requests had come in canonical form."""

import os
import random
from typing import Any

import pytest
from neo4j import AsyncDriver

from nexus_graph.bulk.renormalize import Report, renormalize
from nexus_graph.config import Settings
from nexus_graph.identifiers import normalize
from nexus_graph.store.database import Pool, connect_pool
from tests.stage.graphing import Pair, findings, relaying, soft_delete

EXAMPLES = 60
FAMILY_LIMIT = 1_000
FORGETFUL = """
    CREATE OR REPLACE FUNCTION rewrite_email(old_email text, new_email text, moment timestamptz) RETURNS void
    LANGUAGE sql AS $$
        UPDATE contacts SET email = new_email, updated_at = moment WHERE email = old_email AND deleted_at IS NULL
    $$
"""


@pytest.fixture
def seed() -> int:
    """Other rows each run; NEXUS_TEST_SEED repeats one."""
    return int(os.environ.get("NEXUS_TEST_SEED") or random.SystemRandom().randrange(2**32))


class Example:
    """Requests over few people, each spelled as older rules let it be; deletions in between."""

    def __init__(self, seed: int, *, deletions: bool) -> None:
        dice = random.Random(seed)
        people = dice.choice([3, 6, 12])
        self.rows = [_spelled(dice, people) for _ in range(dice.randint(1, 40))]
        self.deleted = dice.sample(range(1, 15), dice.choice([1, 3, 6])) if deletions else []


def _spelled(dice: random.Random, people: int) -> Pair:
    person, other = dice.randrange(people), dice.randrange(people)
    email = dice.choice(
        [
            f"e{person}@xn--bcher-kva.example",
            f"e{person}@xn--bcher-kva.example",
            f"e{person}@bücher.example",
            f"<e{person}@bücher.example>",
            f"e{person}@xn--bcher-kva.example.",
        ]
    )
    phone = dice.choice(
        [f"+22901970000{other:02}", f"+22901970000{other:02}", f"+229970000{other:02}", f"+229 970000{other:02}"]
    )
    shape = dice.random()
    return (email, None) if shape < 0.15 else (None, phone) if shape < 0.3 else (email, phone)


def _canonical(pair: Pair) -> Pair:
    email, phone = pair
    return (
        None if email is None else normalize.email(email),
        None if phone is None else normalize.phone(phone, None),
    )


async def _begin(pool: Pool, rows: list[Pair], deleted: list[int]) -> None:
    await pool.execute(
        "TRUNCATE contacts, evidence, identity_events, outbox, aliases RESTART IDENTITY; SELECT setval('change_seq', 0)"
    )
    await pool.fetch(
        "SELECT outcome FROM identify_in_turn($1::text[], $2::text[], $3::uuid[], $4)",
        [pair[0] for pair in rows],
        [pair[1] for pair in rows],
        [None] * len(rows),
        FAMILY_LIMIT,
    )
    for contact in deleted:
        await soft_delete(pool, contact)


async def _renormalized(settings: Settings, *, dry_run: bool = False) -> Report:
    pool = await connect_pool(settings, role="nexus_import", size=1)
    try:
        return await renormalize(pool, settings, dry_run=dry_run)
    finally:
        await pool.close()


def _figures(report: Report) -> list[int]:
    tallies = [count for tally in report.tallies.values() for count in (tally.changed, tally.invalid)]
    return [*tallies, report.families_joined, report.unions_refused, report.contacts_retired]


async def _families(pool: Pool) -> list[tuple[Any, ...]]:
    """What identify tells of each family, but for the ids; in the order of seniority."""
    roots = await pool.fetch("SELECT id FROM contacts WHERE linked_id IS NULL AND deleted_at IS NULL ORDER BY id")
    told = []
    for root in roots:
        row = await pool.fetchrow(
            "SELECT array_agg(email) AS emails, array_agg(phone_number) AS phones FROM family_in_order($1, NULL)",
            root["id"],
        )
        assert row is not None
        told.append(tuple(tuple(dict.fromkeys(value for value in row[name] if value)) for name in ("emails", "phones")))
    return told


async def _ties(pool: Pool) -> set[tuple[Any, ...]]:
    """Every pairing that a live contact or evidence holds."""
    rows = await pool.fetch(
        "SELECT email, phone_number FROM contacts "
        "WHERE deleted_at IS NULL AND email IS NOT NULL AND phone_number IS NOT NULL "
        "UNION SELECT email, phone_number FROM evidence"
    )
    return {tuple(row) for row in rows}


async def _record(pool: Pool) -> dict[str, list[tuple[Any, ...]]]:
    tables = ("contacts", "evidence", "identity_events", "outbox", "aliases")
    return {
        name: sorted((tuple(row) for row in await pool.fetch(f"SELECT * FROM {name}")), key=repr) for name in tables
    }


async def _broken(pool: Pool) -> list[Any]:
    """What no record may hold: one identifier in two families, a chain, a loser without an alias, a pairing twice."""
    return await pool.fetch(
        """
        WITH carried AS (
            SELECT email AS value, coalesce(linked_id, id) AS family FROM contacts WHERE deleted_at IS NULL
            UNION SELECT phone_number, coalesce(linked_id, id) FROM contacts WHERE deleted_at IS NULL
            UNION SELECT email, family_id FROM evidence UNION SELECT phone_number, family_id FROM evidence
        )
        SELECT value FROM carried WHERE value IS NOT NULL GROUP BY value HAVING count(DISTINCT family) > 1
        UNION ALL SELECT 'chain' FROM contacts AS c JOIN contacts AS p ON p.id = c.linked_id
        WHERE c.deleted_at IS NULL AND (p.linked_id IS NOT NULL OR p.deleted_at IS NOT NULL)
        UNION ALL SELECT 'alias' FROM identity_events AS e
        WHERE kind = 'families_merged' AND NOT EXISTS (SELECT FROM aliases WHERE family_id = e.other_family_id)
        -- One that was merged away leads again as an heir.
        AND NOT EXISTS (SELECT FROM contacts WHERE id = e.other_family_id AND linked_id IS NULL)
        UNION ALL SELECT 'junior' FROM contacts AS c JOIN contacts AS p ON p.id = c.linked_id
        WHERE c.deleted_at IS NULL AND (c.created_at, c.id) < (p.created_at, p.id)
        UNION ALL SELECT 'twice' FROM evidence AS e JOIN contacts AS c
        ON c.email = e.email AND c.phone_number = e.phone_number AND c.deleted_at IS NULL
        AND NOT EXISTS (SELECT FROM contacts AS d WHERE d.deleted_at IS NOT NULL)
        """
    )


async def test_the_record_is_what_identify_would_have_made_of_canonical_requests(
    settings: Settings, pool: Pool, seed: int
) -> None:
    print(f"NEXUS_TEST_SEED={seed}")
    joined = retired = 0
    for number in range(seed, seed + EXAMPLES):
        example = Example(number, deletions=False)
        await _begin(pool, [_canonical(pair) for pair in example.rows], [])
        wanted = await _families(pool), await _ties(pool)

        await _begin(pool, example.rows, [])
        before = await _record(pool)
        foreseen = await _renormalized(settings, dry_run=True)
        assert await _record(pool) == before, number
        done = await _renormalized(settings)
        assert (await _families(pool), await _ties(pool)) == wanted, number
        assert await _broken(pool) == [], number
        assert _figures(foreseen) == _figures(done), number

        after = await _record(pool)
        again = await _renormalized(settings)
        assert await _record(pool) == after, number
        assert set(_figures(again)) == {0}, number
        joined += done.families_joined
        retired += done.contacts_retired
    assert joined
    assert retired


async def test_a_rewrite_that_forgets_the_evidence_is_caught(settings: Settings, pool: Pool, seed: int) -> None:
    """A planted bug: an email is rewritten on contacts alone."""
    print(f"NEXUS_TEST_SEED={seed}")
    await pool.execute(FORGETFUL)
    for number in range(seed, seed + EXAMPLES):
        example = Example(number, deletions=False)
        await _begin(pool, [_canonical(pair) for pair in example.rows], [])
        wanted = await _families(pool), await _ties(pool)
        await _begin(pool, example.rows, [])
        await _renormalized(settings)
        if (await _families(pool), await _ties(pool)) != wanted or await _broken(pool):
            return
    pytest.fail("no example shows it")


async def test_what_deletions_left_stays_right_and_the_graph_follows(
    settings: Settings, pool: Pool, driver: AsyncDriver, seed: int
) -> None:
    print(f"NEXUS_TEST_SEED={seed}")
    async with relaying(settings):
        for number in range(seed, seed + 12):
            example = Example(number, deletions=True)
            # Everybody of an example is somebody else than those before.
            rows = [
                (email and f"n{number}{email.lstrip('<')}", phone and _moved(phone, number - seed))
                for email, phone in example.rows
            ]
            await pool.fetch(
                "SELECT outcome FROM identify_in_turn($1::text[], $2::text[], $3::uuid[], $4)",
                [pair[0] for pair in rows],
                [pair[1] for pair in rows],
                [None] * len(rows),
                FAMILY_LIMIT,
            )
            newest = await pool.fetchval("SELECT max(id) FROM contacts")
            for contact in example.deleted:
                await soft_delete(pool, newest - contact)
            await _renormalized(settings)
            assert await _broken(pool) == [], number
            assert (
                await pool.fetchval("SELECT count(*) FROM contacts WHERE deleted_at IS NULL AND email ~ 'ü|<|>|\\.$'")
            ) == 0
            assert (
                await pool.fetchval("SELECT count(*) FROM evidence WHERE pairing ~ 'ü|<|>|\\. |\\+229 |\\+2299'")
            ) == 0
        assert await findings(pool, driver) == []


def _moved(phone: str, example: int) -> str:
    return f"{phone[:-4]}{example:02}{phone[-2:]}"
