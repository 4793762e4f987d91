"""The projection: whatever the order, however often, however many write at once, the graph shows the newest states."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from neo4j import AsyncDriver

from nexus_graph import statements
from nexus_graph.config import Settings
from nexus_graph.graph import projection
from nexus_graph.graph.projection import project
from nexus_graph.graph.states import FamilyState, read_states
from nexus_graph.statements import cypher
from nexus_graph.store.database import Pool
from tests.graphing import findings, identify, picture, soft_delete

EMAILS = PHONES = 7
STEPS = 60
ROUNDS = 3

Variant = Callable[[str], str]
"""Statements by name, some of them with a planted bug."""


@pytest.fixture
def rng() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


async def _changed(pool: Pool) -> list[FamilyState]:
    """The states that a relay would now read; the outbox is empty afterwards."""
    rows = await pool.fetch("DELETE FROM outbox RETURNING family_id")
    return await read_states(pool, sorted({row["family_id"] for row in rows}))


async def _history(pool: Pool, rng: random.Random) -> list[FamilyState]:
    """A random life of the record: every state on the way."""
    history = []
    for _ in range(STEPS):
        if rng.random() < 0.2 and (living := await pool.fetch("SELECT id FROM contacts WHERE deleted_at IS NULL")):
            await soft_delete(pool, rng.choice(living)["id"])
        else:
            email = rng.choice([None, *(f"e{n}@x.example" for n in range(EMAILS))])
            phone = rng.choice(["+15550000000", *(f"+1555000000{n}" for n in range(PHONES))])
            await identify(pool, (email, phone))
        history += await _changed(pool)
    return history


async def _apply(driver: AsyncDriver, settings: Settings, states: Sequence[FamilyState], rng: random.Random) -> None:
    """The states in random order, half of them twice, in batches, by two appliers that work at the same time."""
    deck = [*states, *rng.sample(states, len(states) // 2)]
    rng.shuffle(deck)

    async def applier(share: list[FamilyState]) -> None:
        while share:
            batch: dict[int, FamilyState] = {}
            size = rng.randint(1, 12)
            while share and len(batch) < size and share[-1]["id"] not in batch:
                state = share.pop()
                batch[state["id"]] = state
            await project(driver, list(batch.values()), settings)

    await asyncio.gather(applier(deck[::2]), applier(deck[1::2]))


async def _wipe(driver: AsyncDriver) -> None:
    await driver.execute_query("MATCH (n) DETACH DELETE n")


async def test_any_order_any_number_of_times_gives_the_newest_state(
    pool: Pool, driver: AsyncDriver, settings: Settings, rng: random.Random
) -> None:
    history = await _history(pool, rng)
    kinds = {state["live"] for state in history}
    assert kinds == {True, False}
    await project(driver, await read_states(pool, sorted({state["id"] for state in history})), settings)
    newest = await picture(driver)
    for _ in range(ROUNDS):
        await _wipe(driver)
        await _apply(driver, settings, history, rng)
        assert await findings(pool, driver, settings) == []
        nodes, edges = await picture(driver)
        # Which version brought a contact to its family depends on the order; what is there does not.
        assert len(nodes) == len(newest[0])
        assert len(edges) == len(newest[1])


def _unguarded_families(name: str) -> str:
    text = cypher(name)
    return text.replace("WHERE coalesce(f.version, -1) <= state.version", "") if name == "claim_families" else text


def _unguarded_contacts(name: str) -> str:
    text = cypher(name)
    return text.replace("WHERE coalesce(c.version, -1) <= state.version", "") if name == "project_contacts" else text


def _unguarded_ties(name: str) -> str:
    text = cypher(name)
    return text.replace("WHERE coalesce(tie.version, -1) <= state.version", "") if name == "project_ties" else text


def _forgetful(name: str) -> str:
    """Families that are gone leave no tombstone."""
    text = cypher(name)
    return text + "\nWITH taken MATCH (f:Tombstone) DETACH DELETE f\nRETURN count(*)" if name == "drop" else text


@pytest.mark.parametrize("variant", [_unguarded_families, _unguarded_contacts, _unguarded_ties])
async def test_a_projection_that_does_not_compare_is_caught(
    pool: Pool,
    driver: AsyncDriver,
    settings: Settings,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    variant: Variant,
) -> None:
    history = await _history(pool, rng)
    monkeypatch.setattr(projection, "cypher", variant)
    caught = 0
    for _ in range(10 * ROUNDS):
        await _wipe(driver)
        await _apply(driver, settings, history, rng)
        caught += bool(await findings(pool, driver, settings))
        if caught:
            return
    pytest.fail("the planted bug went unnoticed")


def _compares_before_it_writes(name: str) -> str:
    lock, guard = "SET f.id = state.id\nWITH f, state\n", "WHERE coalesce(f.version, -1) <= state.version\n"
    text = cypher(name)
    assert name != "claim_families" or lock + guard in text
    return text.replace(lock + guard, "WITH f, state\n" + guard)


async def _race(pool: Pool, driver: AsyncDriver, settings: Settings) -> int:
    """A newer state is being written when an older one arrives; the version that remains."""
    await identify(pool, ("a@x.example", "+15550000001"))
    (before,) = await _changed(pool)
    await project(driver, [before], settings)
    await identify(pool, ("a@x.example", "+15550000002"))
    (older,) = await _changed(pool)
    await identify(pool, ("a@x.example", "+15550000003"))
    (newer,) = await _changed(pool)
    assert before["version"] < older["version"] < newer["version"]

    async with driver.session() as session, await session.begin_transaction() as transaction:
        await projection._project(transaction, [newer])  # type: ignore[arg-type]
        late = asyncio.create_task(project(driver, [older], settings))
        await _until_blocked(driver)
        await transaction.commit()
    await late
    found = await driver.execute_query("MATCH (f:Family {id: $id}) RETURN f.version AS version", id=newer["id"])
    assert newer["version"] != older["version"]
    return int(found.records[0]["version"] - newer["version"])


async def _until_blocked(driver: AsyncDriver) -> None:
    """Return once a transaction waits for another's lock."""
    async with asyncio.timeout(10):
        while True:
            found = await driver.execute_query("SHOW TRANSACTIONS YIELD status WHERE status STARTS WITH 'Blocked'")
            if found.records:
                return


async def test_an_older_state_that_arrives_during_a_newer_ones_write_is_ignored(
    pool: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    assert await _race(pool, driver, settings) == 0
    assert await findings(pool, driver, settings) == []


async def test_comparing_before_writing_is_caught(
    pool: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "cypher", _compares_before_it_writes)
    assert await _race(pool, driver, settings) < 0
    assert await findings(pool, driver, settings)


async def test_a_merged_family_that_is_revived_is_a_family_again(
    pool: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    await identify(pool, ("a@x.example", "+15550000001"), ("b@x.example", "+15550000002"))
    apart = await _changed(pool)
    await identify(pool, ("a@x.example", "+15550000002"))
    merged = await _changed(pool)
    await soft_delete(pool, 1)
    revived = await _changed(pool)
    assert {state["id"]: state["live"] for state in merged} == {1: True, 2: False}
    assert {state["id"]: state["live"] for state in revived} == {1: False, 2: True}

    for states in (apart, merged):
        await project(driver, states, settings)
    assert await _labels(driver, 2) == ["Family", "Tombstone"]
    for states in (revived, apart, merged, apart):
        await project(driver, states, settings)
    assert await _labels(driver, 2) == ["Family"]
    assert await _labels(driver, 1) == ["Family", "Tombstone"]
    assert await findings(pool, driver, settings) == []


async def test_a_tombstone_holds_nothing_personal(pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
    await identify(pool, ("a@x.example", "+15550000001"))
    await project(driver, await _changed(pool), settings)
    await soft_delete(pool, 1)
    (gone,) = await _changed(pool)
    await project(driver, [gone], settings)
    nodes, edges = await picture(driver)
    assert nodes == [repr([["Family", "Tombstone"], [("id", 1), ("version", gone["version"])]])]
    assert edges == []


async def test_the_same_state_again_changes_nothing(pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
    await identify(pool, ("a@x.example", "+15550000001"), ("b@x.example", "+15550000002"), ("a@x.example", None))
    await identify(pool, ("a@x.example", "+15550000002"))
    states = await _changed(pool)
    await project(driver, states, settings)
    before = await picture(driver)
    await project(driver, states, settings)
    assert await picture(driver) == before


async def test_an_identifier_of_a_deleted_contact_lives_on_in_evidence_only(
    pool: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    await identify(
        pool, ("a@x.example", "+15550000001"), ("b@x.example", "+15550000001"), ("b@x.example", "+15550000002")
    )
    await soft_delete(pool, 2)
    await soft_delete(pool, 3)
    await project(driver, await _changed(pool), settings)
    found = await driver.execute_query(
        "MATCH (p:Phone {value: '+15550000002'}) RETURN COUNT { (p)<-[:HAS_PHONE]-() } AS held, "
        "COUNT { (p)<-[:SEEN_WITH]-() } AS seen"
    )
    assert list(found.records[0].values()) == [0, 1]
    assert await findings(pool, driver, settings) == []


async def test_times_are_exact_to_the_microsecond_also_before_1970(
    pool: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    await pool.execute(
        "INSERT INTO contacts (email, link_precedence, created_at) VALUES "
        "('old@x.example', 'primary', '1969-12-31 23:59:59.999999+00'), "
        "('far@x.example', 'primary', '9999-12-31 23:59:59.999999+00')"
    )
    await project(driver, await read_states(pool, [1, 2]), settings)
    found = await driver.execute_query("MATCH (c:Contact) RETURN toString(c.createdAt) AS at ORDER BY c.id")
    assert [record["at"] for record in found.records] == ["1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"]
    assert await findings(pool, driver, settings) == []


def _operators(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """From the top down to the leaf that runs first."""
    return [plan, *(operator for child in plan.get("children", []) for operator in _operators(child))]


@pytest.mark.parametrize(
    "name", ["claim_families", "project_contacts", "project_ties", "drop_stray_contacts", "drop_stray_ties"]
)
async def test_plans_seek_in_indexes_and_compare_after_the_lock(
    driver: AsyncDriver, template: object, name: str
) -> None:
    summary = (await driver.execute_query(f"EXPLAIN {cypher(name)}", families=[])).summary
    assert summary.plan is not None
    operators = _operators(summary.plan)
    types = [operator["operatorType"].split("@")[0] for operator in operators]
    assert not [kind for kind in types if "Scan" in kind]
    details = [operator["args"].get("Details", "") for operator in operators]
    if "MERGE" in statements.cypher(name):
        lock = next(
            at
            for at, text in enumerate(details)
            if types[at] == "SetProperty" and ".id = " in text or "e.value = " in text
        )
        # Operators below the lock run before it: none of them may have read a version.
        assert not [text for text in details[lock + 1 :] if ".version" in text and "state.version" not in text]


async def _labels(driver: AsyncDriver, family_id: int) -> list[str]:
    found = await driver.execute_query("MATCH (f:Family {id: $id}) RETURN labels(f) AS labels", id=family_id)
    return sorted(found.records[0]["labels"])
