"""Of a family that grew only what came is written; whatever else happened to it, all of it."""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from neo4j import AsyncDriver, AsyncManagedTransaction

from nexus_graph.config import Settings
from nexus_graph.graph import projection
from nexus_graph.graph.driver import run
from nexus_graph.graph.projection import project
from nexus_graph.graph.repair import repair
from nexus_graph.graph.states import FamilyState, read_states
from nexus_graph.store.database import Pool
from tests.stage.graphing import Pair, changed, findings, identify, picture, soft_delete

A, B, C = ("a@x.example", "+15550000001"), ("b@x.example", "+15550000002"), ("c@x.example", "+15550000003")
# Eight events are told of a family; with the one that the graph shows that makes seven steps.
STEPS_TOLD = 7
STEPS = 100
LIVES = 5


class Written(NamedTuple):
    """What a projection wrote: contacts and ties, and the families that it looked through for strays."""

    contacts: list[int]
    ties: list[Pair]
    swept: list[int]


class Graph:
    """The graph, and what was sent to it."""

    def __init__(self, pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
        self.pool = pool
        self.driver = driver
        self.settings = settings
        self.sent: dict[str, list[dict[str, Any]]] = {}

    async def run(self, transaction: AsyncManagedTransaction, name: str, /, **parameters: Any) -> Any:
        self.sent.update(parameters)
        return await run(transaction, name, **parameters)

    async def changed(self) -> list[FamilyState]:
        """What a relay would now read; the outbox is empty afterwards."""
        return await changed(self.pool)

    async def catch_up(self) -> Written:
        return await self.project(await self.changed())

    async def project(self, states: Sequence[FamilyState]) -> Written:
        self.sent.clear()
        await project(self.driver, states, self.settings)
        return Written(
            sorted(contact for state in self.sent.get("contacts", []) for contact in state["ids"]),
            sorted(tuple(pair) for state in self.sent.get("ties", []) for pair in state["pairs"]),
            sorted(state["id"] for state in self.sent.get("swept", [])),
        )

    async def agrees(self) -> bool:
        return await findings(self.pool, self.driver) == []


@pytest.fixture
def graph(pool: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Graph:
    graph = Graph(pool, driver, settings)
    monkeypatch.setattr(projection, "run", graph.run)
    return graph


async def test_a_new_contact_is_written_alone(graph: Graph) -> None:
    await identify(graph.pool, A, B, (A[0], "+15550000009"))
    assert await graph.catch_up() == Written([1, 2, 3], [], [])
    await identify(graph.pool, (A[0], "+15550000008"), C)
    assert await graph.catch_up() == Written([4, 5], [], [])
    assert await graph.agrees()


async def test_so_is_new_evidence(graph: Graph) -> None:
    await identify(graph.pool, A, (A[0], B[1]), (C[0], A[1]), (A[0], "+15550000009"), (C[0], B[1]))
    await graph.catch_up()
    await identify(graph.pool, (C[0], "+15550000009"))
    assert await graph.catch_up() == Written([], [(C[0], "+15550000009")], [])
    assert await graph.agrees()


async def test_several_changes_are_written_at_once(graph: Graph) -> None:
    await identify(graph.pool, A)
    await graph.catch_up()
    await identify(graph.pool, (B[0], A[1]), (A[0], C[1]), (B[0], C[1]))
    assert await graph.catch_up() == Written([2, 3], [(B[0], C[1])], [])
    assert await graph.agrees()


async def test_a_union_brings_the_others_contacts_and_all_ties(graph: Graph) -> None:
    await identify(graph.pool, A, (A[0], "+15550000009"), B, (B[0], C[1]), (C[0], B[1]), (C[0], C[1]))
    await graph.catch_up()
    await identify(graph.pool, (A[0], B[1]))
    await identify(graph.pool, (A[0], "+15550000008"))
    # Contact 3 led the other family, which is buried.
    assert await graph.catch_up() == Written([3, 4, 5, 6], [(A[0], B[1]), (C[0], C[1])], [3])
    assert await graph.agrees()


async def test_a_union_that_leaves_the_others_ties_behind_is_caught(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "_UNION", "nothing of the kind")
    await identify(graph.pool, A, B, (B[0], C[1]), (C[0], B[1]), (C[0], C[1]), (A[0], "+15550000009"))
    await graph.catch_up()
    await identify(graph.pool, (A[0], B[1]))
    await graph.catch_up()
    assert not await graph.agrees()


async def test_a_union_of_unions_is_no_different(graph: Graph) -> None:
    await identify(graph.pool, A, B, C)
    await graph.catch_up()
    await identify(graph.pool, (B[0], C[1]), (A[0], C[1]))
    assert await graph.catch_up() == Written([2, 3], [(A[0], C[1]), (B[0], C[1])], [2, 3])
    assert await graph.agrees()


@pytest.mark.parametrize("gone", [1, 2], ids=["the primary", "a secondary"])
async def test_a_deletion_is_written_whole(graph: Graph, gone: int) -> None:
    await identify(graph.pool, A, (A[0], B[1]), (A[0], C[1]))
    await graph.catch_up()
    await soft_delete(graph.pool, gone)
    await identify(graph.pool, (A[0], "+15550000009"))
    left = [contact for contact in (1, 2, 3, 4) if contact != gone]
    written = await graph.catch_up()
    assert written.contacts == left
    assert written.swept == [1]
    assert await graph.agrees()


async def test_a_family_that_was_gone_is_written_whole(graph: Graph) -> None:
    await identify(graph.pool, A, B, (B[0], C[1]))
    await graph.catch_up()
    await identify(graph.pool, (A[0], B[1]))
    await graph.catch_up()
    await soft_delete(graph.pool, 1)
    written = await graph.catch_up()
    assert written.contacts == [2, 3]
    assert written.swept == [1, 2]
    assert await graph.agrees()


async def test_a_family_that_was_wiped_is_written_whole(graph: Graph) -> None:
    await identify(graph.pool, A, (A[0], B[1]))
    await graph.catch_up()
    await graph.driver.execute_query("MATCH (n) DETACH DELETE n")
    await identify(graph.pool, (A[0], C[1]))
    assert await graph.catch_up() == Written([1, 2, 3], [], [])
    assert await graph.agrees()


@pytest.mark.parametrize(("steps", "contacts"), [(STEPS_TOLD, STEPS_TOLD), (STEPS_TOLD + 1, STEPS_TOLD + 2)])
async def test_more_changes_than_are_told_are_written_whole(graph: Graph, steps: int, contacts: int) -> None:
    await identify(graph.pool, A)
    await graph.catch_up()
    await identify(graph.pool, *((A[0], f"+1555100000{n}") for n in range(steps)))
    assert len((await graph.catch_up()).contacts) == contacts
    assert await graph.agrees()


async def test_numbers_that_do_not_add_up_are_written_whole(graph: Graph) -> None:
    await identify(graph.pool, A)
    await graph.catch_up()
    await graph.pool.execute(
        "INSERT INTO contacts (email, linked_id, link_precedence, created_at, updated_at) "
        "VALUES ($1, 1, 'secondary', '2020-01-01', '2020-01-01')",
        A[0],
    )
    await identify(graph.pool, (A[0], B[1]))
    assert await graph.catch_up() == Written([1, 2, 3], [], [1])
    assert await graph.agrees()


async def test_a_state_again_or_an_older_one_writes_nothing(graph: Graph) -> None:
    await identify(graph.pool, A, (A[0], B[1]), (C[0], A[1]))
    older = await graph.changed()
    await graph.project(older)
    await identify(graph.pool, (A[0], C[1]), (C[0], B[1]))
    newer = await graph.changed()
    await graph.project(newer)
    before = await picture(graph.driver)
    for states in (newer, older):
        assert await graph.project(states) == Written([], [], [])
        assert await picture(graph.driver) == before
    assert await graph.agrees()


async def test_a_contact_that_moved_is_not_taken_back_by_an_older_state(graph: Graph) -> None:
    """Family 1 took it in by an addition; family 2's state, and its own before the union, come late."""
    await identify(graph.pool, A, B, (B[0], C[1]), (C[0], B[1]), (C[0], C[1]))
    apart = await graph.changed()
    await graph.project(apart)
    await identify(graph.pool, (A[0], B[1]))
    (survivor, gone) = await graph.changed()
    assert (survivor["id"], gone["id"]) == (1, 2)
    await graph.project([survivor])
    # Nobody has told the graph yet that family 2 is gone.
    await graph.project(apart)
    await graph.project([gone])
    await graph.project(apart)
    assert await graph.agrees()


async def test_an_addition_to_a_family_whose_primary_is_gone_leaves_nothing_behind(graph: Graph) -> None:
    """Family 2 grew, was taken in by family 1, and its contacts were deleted there; the news of it comes last."""
    await identify(graph.pool, A, B)
    await graph.catch_up()
    await identify(graph.pool, (B[0], C[1]))
    grown = await graph.changed()
    await identify(graph.pool, (A[0], B[1]))
    survivor, gone = await graph.changed()
    await soft_delete(graph.pool, 2)
    await soft_delete(graph.pool, 3)
    for states in ([survivor], await graph.changed()):
        await graph.project(states)
    assert await graph.project(grown) == Written([3], [], [])
    await graph.project([gone])
    assert await graph.agrees()


async def test_what_was_tampered_with_is_mended_though_the_version_is_right(graph: Graph) -> None:
    await identify(graph.pool, A, (A[0], B[1]), (C[0], A[1]))
    await graph.catch_up()
    await identify(graph.pool, (A[0], C[1]), (C[0], B[1]))
    await graph.catch_up()
    for tampering in (
        "MATCH (c:Contact {id: 2}) SET c.email = 'z@x.example'",
        "MATCH (:Contact {id: 2})-[place:IN_FAMILY]->() DELETE place",
        "MATCH ()-[tie:SEEN_WITH]->() DELETE tie",
        "MATCH (e {value: 'a@x.example'}), (p {value: '+15550000001'}) CREATE (e)-[:SEEN_WITH {family: 1}]->(p)",
    ):
        await graph.driver.execute_query(tampering)
        found = await findings(graph.pool, graph.driver)
        assert found
        await repair(graph.pool, graph.driver, graph.settings, found)
        assert await graph.agrees()


async def _change(graph: Graph, rng: random.Random, number: int) -> None:
    """Some requests at once: somebody new, a new identifier, evidence, a union; or a deletion."""
    living = await graph.pool.fetch(
        "SELECT id, coalesce(linked_id, id) AS family, email, phone_number AS phone FROM contacts "
        "WHERE deleted_at IS NULL AND email IS NOT NULL AND phone_number IS NOT NULL"
    )
    if living and rng.random() < 0.06:
        await soft_delete(graph.pool, rng.choice(living)["id"])
    else:
        names = [f"{number}{place}" for place in range(rng.choice([1, 1, 2, 4]))]
        await identify(graph.pool, *(_pair(rng, living, f"e{name}@x.example", f"+1555{name}") for name in names))


def _pair(rng: random.Random, living: list[Any], email: str, phone: str) -> Pair:
    if not living:
        return email, phone
    one, other = rng.choices(living, k=2)
    sibling = rng.choice([contact for contact in living if contact["family"] == one["family"]])
    pairs: list[tuple[int, Pair]] = [
        (3, (email, phone)),
        (1, (email, None)),
        (1, (None, phone)),
        (3, (one["email"], phone)),
        (3, (email, one["phone"])),
        (4, (one["email"], sibling["phone"])),
        (3, (one["email"], other["phone"])),
    ]
    return rng.choices([pair for _, pair in pairs], [weight for weight, _ in pairs])[0]


async def _live(graph: Graph, rng: random.Random, life: int) -> list[bool]:
    """A random life of the record, projected at random moments, now and then with states from before. Whether graph and
    record agree, each time nothing was left to tell.
    """
    agreed, before, rest = [], list[list[FamilyState]](), list[FamilyState]()
    for step in range(STEPS):
        await _change(graph, rng, life * STEPS + step)
        if rng.random() < 0.4:
            states = await graph.changed()
            rest = await read_states(graph.pool, sorted({state["id"] for state in [*rest, *states]}))
            now = rng.sample(rest, rng.randint(0, len(rest)))
            rest = [state for state in rest if state not in now]
            before.append(now)
            for batch in (now, rng.choice(before)):
                await graph.project(batch)
            if not rest:
                agreed.append(await graph.agrees())
    await graph.project(await read_states(graph.pool, sorted({state["id"] for state in rest})))
    await graph.catch_up()
    return [*agreed, await graph.agrees()]


async def test_whatever_is_projected_when_the_graph_agrees(graph: Graph, rng: random.Random) -> None:
    assert all(await _live(graph, rng, 0))


def _leave_contacts_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A union is forgotten: what came is what was made."""

    additions = projection.additions

    def forgetful(state: FamilyState, *shown: int) -> FamilyState | None:
        told = state.copy()
        told["joined"] = state["micros"]
        return additions(told, *shown)

    monkeypatch.setattr(projection, "additions", forgetful)


def _take_deletions_for_additions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "_ADDING", projection._ADDING | {"contact_deleted"})


@pytest.mark.parametrize("plant", [_leave_contacts_behind, _take_deletions_for_additions])
async def test_a_projection_that_takes_too_much_for_an_addition_is_caught(
    graph: Graph, rng: random.Random, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Once the numbers need not add up, which alone would give each of these away."""
    monkeypatch.setattr(projection, "_adds_up", lambda *_: True)
    plant(monkeypatch)
    for life in range(LIVES):
        if not all(await _live(graph, rng, life)):
            return
    pytest.fail("nobody noticed")
