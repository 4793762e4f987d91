"""import against identify: whatever the rows, the record is the same, number for number, as after one call for each."""

import os
import random
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nexus_graph.bulk import decide
from nexus_graph.bulk.contacts import read_contacts
from nexus_graph.bulk.decide import Decider
from nexus_graph.bulk.reader import chunks
from nexus_graph.bulk.rows import open_rows
from nexus_graph.bulk.write import import_chunk
from nexus_graph.config import Settings
from nexus_graph.store.database import Pool, connect_pool
from tests.stage.graphing import Pair, soft_delete

EXAMPLES = 80


@pytest.fixture
def seed() -> int:
    """Other rows each run; NEXUS_TEST_SEED repeats one."""
    return int(os.environ.get("NEXUS_TEST_SEED") or random.SystemRandom().randrange(2**32))


class Example:
    """Rows over few identifiers, so that unions, chains, repeats and refusals are common; and a record before."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self.family_limit = dice.choice([2, 3, 4, 6, 1000])
        self.chunk_rows = dice.choice([1, 3, 10, 40, 1000])
        keys = dice.choice([4, 8, 20, 60])
        self.before = [_pair(dice, keys) for _ in range(dice.choice([0, 10, 40]))]
        self.deleted = dice.sample(range(1, 20), dice.choice([0, 3, 8]))
        self.rows = [_pair(dice, keys) for _ in range(dice.randint(1, 80))]


def _pair(dice: random.Random, keys: int) -> Pair:
    email = f"e{dice.randrange(keys)}@x.example" if dice.random() < 0.85 else None
    phone = f"1555000{dice.randrange(keys):02}" if email is None or dice.random() < 0.85 else None
    return email, phone


async def test_the_record_is_the_one_that_identify_leaves(
    settings: Settings, pool: Pool, tmp_path: Path, seed: int
) -> None:
    print(f"NEXUS_TEST_SEED={seed}")
    seen: Counter[str] = Counter()
    for number in range(seed, seed + EXAMPLES):
        example = Example(number)
        await _begin(pool, example)
        wanted = [(await _identify(pool, example.rows, example.family_limit), await _record(pool)) for _ in range(2)]
        await _begin(pool, example)
        imported = [(await _import(settings, example, tmp_path), await _record(pool)) for _ in range(2)]
        assert imported == wanted, number
        first, second = imported
        # The same again changes nothing; but one that is refused may meet another family the second time, and is told.
        assert first[1] == second[1] or "REFUSED" in first[0]
        seen += first[0]
    assert set(seen) == {"CREATED", "LINKED", "MERGED", "MATCHED", "REFUSED"}


async def test_a_limit_that_counts_wrong_is_caught(
    settings: Settings, pool: Pool, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted bug: a union forgets to add up the sizes."""
    print(f"NEXUS_TEST_SEED={seed}")
    unite = Decider._unite

    def forgetful(self: Decider, survivor: int, loser: int) -> None:
        contacts = self._standings[survivor].contacts
        unite(self, survivor, loser)
        self._standings[survivor].contacts = contacts

    monkeypatch.setattr(decide.Decider, "_unite", forgetful)
    for number in range(seed, seed + EXAMPLES):
        example = Example(number)
        await _begin(pool, example)
        await _identify(pool, example.rows, example.family_limit)
        wanted = await _record(pool)
        await _begin(pool, example)
        await _import(settings, example, tmp_path)
        if await _record(pool) != wanted:
            return
    pytest.fail("nobody noticed")


async def _begin(pool: Pool, example: Example) -> None:
    await pool.execute(
        "TRUNCATE contacts, evidence, identity_events, outbox, aliases RESTART IDENTITY; SELECT setval('change_seq', 0)"
    )
    await _identify(pool, example.before, example.family_limit)
    for contact_id in example.deleted:
        await soft_delete(pool, contact_id)


async def _identify(pool: Pool, rows: list[Pair], family_limit: int) -> "Counter[str]":
    """One after another; what each was told, counted."""
    if not rows:
        return Counter()
    emails, phones = [pair[0] for pair in rows], [pair[1] for pair in rows]
    answers = await pool.fetch(
        "SELECT outcome FROM identify_in_turn($1::text[], $2::text[], $3::uuid[], $4)",
        emails,
        phones,
        [None] * len(rows),
        family_limit,
    )
    return Counter(row["outcome"] for row in answers)


async def _import(settings: Settings, example: Example, folder: Path) -> "Counter[str]":
    file = folder / "rows.csv"
    lines = [f"{email or ''},{phone or ''}" for email, phone in example.rows]
    file.write_text("\n".join(["email,phone", *lines]) + "\n")
    small = settings.model_copy(update={"import_chunk_rows": example.chunk_rows})
    outcomes: Counter[str] = Counter()
    pool = await connect_pool(small, role="nexus_import", size=1)
    with open_rows(file) as rows:
        contacts = read_contacts(rows, region=None, strict=False)
        for chunk in chunks(contacts, rows=small.import_chunk_rows):
            outcomes += await import_chunk(pool, chunk, uuid4(), family_limit=example.family_limit)
    await pool.close()
    return outcomes


async def _record(pool: Pool) -> dict[str, list[tuple[Any, ...]]]:
    """The whole record, comparable: moments by their order, requests by nothing, of the outbox each family's newest."""
    tables = {
        "contacts": "SELECT id, email, phone_number, linked_id, link_precedence, created_at, updated_at, "
        "deleted_at IS NOT NULL FROM contacts ORDER BY id",
        "evidence": "SELECT email, phone_number, family_id, seen_at FROM evidence ORDER BY pairing",
        "events": "SELECT seq, at, kind, family_id, contact_id, other_family_id, cause FROM identity_events "
        "ORDER BY seq",
        "aliases": "SELECT family_id, survivor_id, version FROM aliases ORDER BY family_id",
        "outbox": "SELECT family_id, max(seq) FROM outbox GROUP BY family_id ORDER BY family_id",
    }
    record = {name: [tuple(row) for row in await pool.fetch(query)] for name, query in tables.items()}
    moments = {value for rows in record.values() for row in rows for value in row if isinstance(value, datetime)}
    order = {moment: place for place, moment in enumerate(sorted(moments))}
    return {
        name: [tuple(order[value] if isinstance(value, datetime) else value for value in row) for row in rows]
        for name, rows in record.items()
    }
