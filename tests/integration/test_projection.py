"""The projection: whatever the order, however often, however many write at once, the graph shows the newest states."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any, cast

import pytest
from neo4j import AsyncDriver, AsyncManagedTransaction

from nexus_graph.config import Settings
from nexus_graph.graph import driver as graph
from nexus_graph.graph.driver import planned_once
from nexus_graph.graph.projection import _project, project
from nexus_graph.graph.states import FamilyState, read_states
from nexus_graph.graph.verify import Finding
from nexus_graph.statements import cypher
from nexus_graph.store.database import Pool
from tests.stage.graphing import changed, findings, identify, picture, shown, soft_delete

EMAILS = PHONES = 7
STEPS = 60
ROUNDS = 3


def _rng() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def _plant(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """From now on `name` is this statement."""
    monkeypatch.setattr(graph, "cypher", lambda asked: text if asked == name else cypher(asked))


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
        history += await changed(pool)
    return history


def _names(state: FamilyState) -> set[object]:
    """What no other state of the same snapshot can hold: a batch is of one snapshot."""
    return {("family", state["id"]), *state["ids"], *map(tuple, state["pairs"])}


async def _apply(driver: AsyncDriver, settings: Settings, states: Sequence[FamilyState], rng: random.Random) -> None:
    """The states in random order, half of them twice, in batches, by two appliers that work at the same time."""
    deck = [*states, *rng.sample(states, len(states) // 2)]
    rng.shuffle(deck)

    async def applier(share: list[FamilyState]) -> None:
        while share:
            batch: list[FamilyState] = []
            names: set[object] = set()
            size = rng.randint(1, 12)
            while share and len(batch) < size and names.isdisjoint(_names(share[-1])):
                batch.append(share.pop())
                names |= _names(batch[-1])
            await project(driver, batch, settings)

    await asyncio.gather(applier(deck[::2]), applier(deck[1::2]))


async def _wipe(driver: AsyncDriver) -> None:
    await driver.execute_query("MATCH (n) DETACH DELETE n")


async def test_any_order_any_number_of_times_gives_the_newest_state(
    pool: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    rng = _rng()
    history = await _history(pool, rng)
    kinds = {state["live"] for state in history}
    assert kinds == {True, False}
    await project(driver, await read_states(pool, sorted({state["id"] for state in history})), settings)
    newest = await shown(driver)
    for _ in range(ROUNDS):
        await _wipe(driver)
        await _apply(driver, settings, history, rng)
        assert await findings(pool, driver) == []
        assert await shown(driver) == newest


# Where each step compares versions; without it an older state overwrites a newer one.
GUARDS = {
    "family": ("claim_families", "WHERE coalesce(f.version, -1) <= state.version\n"),
    "contact": ("project_families", "WHERE coalesce(c.version, -1) <= version\n"),
    "tie": ("project_families", "WHERE coalesce(tie.version, -1) <= version\n"),
}


async def _adverse(pool: Pool, driver: AsyncDriver, settings: Settings) -> list[Finding]:
    """Family 2, with evidence of its own, is merged into family 1; then come states from before. What differs."""
    await identify(
        pool, ("a@x.example", "+15550000001"), ("b@x.example", "+15550000002"), ("b@x.example", "+15550000003")
    )
    await identify(pool, ("c@x.example", "+15550000002"), ("c@x.example", "+15550000003"))
    before = {state["id"]: state for state in await changed(pool)}
    assert before[2]["pairs"]
    await identify(pool, ("a@x.example", "+15550000002"))
    after = {state["id"]: state for state in await changed(pool)}
    for state in (after[1], before[2], after[2], before[1], before[2]):
        await project(driver, [state], settings)
    return await findings(pool, driver)


async def test_states_from_before_a_merger_change_nothing(pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
    assert await _adverse(pool, driver, settings) == []


@pytest.mark.parametrize("guarded", GUARDS)
async def test_a_step_that_does_not_compare_is_caught(
    pool: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch, guarded: str
) -> None:
    step, guard = GUARDS[guarded]
    text = cypher(step)
    assert text.count(guard) == 1
    _plant(monkeypatch, step, text.replace(guard, ""))
    assert await _adverse(pool, driver, settings)


async def _race(pool: Pool, driver: AsyncDriver, settings: Settings) -> int:
    """A newer state is being written when an older one arrives. How far the version that remains is behind."""
    await identify(pool, ("a@x.example", "+15550000001"))
    (before,) = await changed(pool)
    await project(driver, [before], settings)
    await identify(pool, ("a@x.example", "+15550000002"))
    (older,) = await changed(pool)
    await identify(pool, ("a@x.example", "+15550000003"))
    (newer,) = await changed(pool)
    assert before["version"] < older["version"] < newer["version"]

    async with driver.session() as session, await session.begin_transaction() as transaction:
        await _project(cast("AsyncManagedTransaction", transaction), [newer])
        late = asyncio.create_task(project(driver, [older], settings))
        await _until_blocked(driver)
        await transaction.commit()
    await late
    found = await driver.execute_query("MATCH (f:Family {id: $id}) RETURN f.version AS version", id=newer["id"])
    return int(newer["version"] - found.records[0]["version"])


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
    assert await findings(pool, driver) == []


async def test_comparing_before_writing_is_caught(
    pool: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, guard = "ON MATCH SET f.id = state.id\nWITH f, state\n", GUARDS["family"][1]
    assert lock + guard in cypher("claim_families")
    _plant(monkeypatch, "claim_families", cypher("claim_families").replace(lock + guard, "WITH f, state\n" + guard))
    assert await _race(pool, driver, settings) > 0
    assert await findings(pool, driver)


async def test_a_merged_family_that_is_revived_is_a_family_again(
    pool: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    await identify(pool, ("a@x.example", "+15550000001"), ("b@x.example", "+15550000002"))
    apart = await changed(pool)
    await identify(pool, ("a@x.example", "+15550000002"))
    merged = await changed(pool)
    await soft_delete(pool, 1)
    revived = await changed(pool)
    assert {state["id"]: state["live"] for state in merged} == {1: True, 2: False}
    assert {state["id"]: state["live"] for state in revived} == {1: False, 2: True}

    for states in (apart, merged):
        await project(driver, states, settings)
    assert await _labels(driver, 2) == ["Family", "Tombstone"]
    for states in (revived, apart, merged, apart):
        await project(driver, states, settings)
    assert await _labels(driver, 2) == ["Family"]
    assert await _labels(driver, 1) == ["Family", "Tombstone"]
    assert await findings(pool, driver) == []


async def test_a_tombstone_holds_nothing_personal(pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
    await identify(pool, ("a@x.example", "+15550000001"))
    await project(driver, await changed(pool), settings)
    await soft_delete(pool, 1)
    (gone,) = await changed(pool)
    await project(driver, [gone], settings)
    nodes, edges = await picture(driver)
    assert nodes == [repr([["Family", "Tombstone"], [("id", 1), ("version", gone["version"])]])]
    assert edges == []


async def test_the_same_state_again_changes_nothing(pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
    await identify(pool, ("a@x.example", "+15550000001"), ("b@x.example", "+15550000002"), ("a@x.example", None))
    await identify(pool, ("a@x.example", "+15550000002"))
    states = await changed(pool)
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
    await project(driver, await changed(pool), settings)
    found = await driver.execute_query(
        "MATCH (p:Phone {value: '+15550000002'}) RETURN COUNT { (p)<-[:HAS_PHONE]-() } AS held, "
        "COUNT { (p)<-[:SEEN_WITH]-() } AS seen"
    )
    assert list(found.records[0].values()) == [0, 1]
    assert await findings(pool, driver) == []


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
    assert await findings(pool, driver) == []


# What each statement may be asked with, and which must seek: all but those that look at everything by design.
SEEKING = [
    *("claim_families", "project_families"),
    *("families", "verify_families", "lower_versions", "still_there"),
]
PARAMETERS: dict[str, object] = {"families": [], "contacts": [], "ties": [], "swept": [], "emails": [], "phones": []}
# What takes a lock, and the version that must not be looked at before.
LOCKS = {
    "claim_families": [("ON MATCH SET f.id = ", "f.version")],
    "project_families": [("ON MATCH SET c.id = ", "c.version"), ("ON MATCH SET e.value = ", "tie.version")],
}


@pytest.mark.parametrize("people", [0, 1, 300])
async def test_plans_seek_in_indexes_and_compare_after_the_lock(
    pool: Pool, driver: AsyncDriver, settings: Settings, subtests: pytest.Subtests, people: int
) -> None:
    """Whatever the graph holds when they are made: they are used for some time after it has grown."""
    if people:
        await identify(pool, *((f"p{n}@x.example", f"+1555{n:07d}") for n in range(people)))
        await project(driver, await changed(pool), settings)
    await driver.execute_query("CALL db.clearQueryCaches()")
    for name in SEEKING:
        with subtests.test(name):
            text, given = planned_once(name, PARAMETERS)
            summary = (await driver.execute_query(f"EXPLAIN {text}", given)).summary
            assert summary.plan is not None
            steps = [
                (plan["operatorType"].split("@")[0], plan["args"].get("Details", "")) for plan in _plans(summary.plan)
            ]
            assert not [kind for kind, _ in steps if "Scan" in kind]
            for taking, version in LOCKS.get(name, []):
                (lock,) = (at for at, (kind, text) in enumerate(steps) if kind.startswith("Merge") and taking in text)
                assert any(version in text for _, text in steps[lock:])
                assert not [text for _, text in steps[:lock] if version in text]


def _plans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """In the order they run: what feeds an operator before it, and of two that do, the first one first."""
    return [*(operator for child in plan.get("children", []) for operator in _plans(child)), plan]


async def _labels(driver: AsyncDriver, family_id: int) -> list[str]:
    found = await driver.execute_query("MATCH (f:Family {id: $id}) RETURN labels(f) AS labels", id=family_id)
    return sorted(found.records[0]["labels"])
