"""rebuild-graph makes the graph anew from the record, also while everything else goes on."""

import asyncio
import json
import random

import pytest
from neo4j import AsyncDriver

from nexus_graph.commands.copies import rebuild_graph, verify_graph
from nexus_graph.config import Settings
from nexus_graph.failures import without_traceback
from nexus_graph.graph import rebuild as rebuilding
from nexus_graph.graph.driver import ensure_constraints
from nexus_graph.graph.extent import gap
from nexus_graph.graph.projection import project
from nexus_graph.graph.rebuild import RebuildUnderWay, rebuild
from nexus_graph.graph.states import read_states
from nexus_graph.store.database import CONNECTION_LOST, Pool
from tests.stage import loading
from tests.stage.graphing import findings, identify, outbox_rows, relaying, shown, soft_delete


def _pairs(rng: random.Random, keys: int, count: int) -> list[tuple[str, str]]:
    return [(f"e{rng.randrange(keys)}@x.example", f"+1555{rng.randrange(keys):07d}") for _ in range(count)]


@pytest.fixture
async def populated(pool: Pool, rng: random.Random) -> Pool:
    """Families of all kinds: small and merged, some gone, some revived."""
    for _ in range(10):
        await identify(pool, *_pairs(rng, 60, 8))
    for contact_id in rng.sample(range(1, 60), 15):
        await soft_delete(pool, contact_id)
    return pool


async def test_a_graph_that_was_wiped_is_the_same_again(
    populated: Pool, driver: AsyncDriver, settings: Settings
) -> None:
    async with relaying(settings) as relay:
        await relay.drained()
    before = await shown(driver)
    assert any("Tombstone" in node for node in before[0])
    await driver.execute_query("MATCH (n) DETACH DELETE n")
    written = 0

    def progress(contacts: int) -> None:
        nonlocal written
        written += contacts

    rebuilt = await rebuild(populated, driver, settings, progress=progress)
    live = await populated.fetchval("SELECT count(*) FROM contacts WHERE deleted_at IS NULL")
    assert (rebuilt.contacts, written) == (live, live)
    assert await findings(populated, driver) == []
    assert await shown(driver) == before


async def test_what_does_not_belong_is_wiped(populated: Pool, driver: AsyncDriver, settings: Settings) -> None:
    await driver.execute_query(
        "CREATE (:Contact {id: 1, version: 1000000})-[:HAS_EMAIL]->(:Email {value: 'nobody@x.example'}), "
        "(:Family {id: 1, version: 1000000}), (:Analyst {name: 'not ours'})"
    )
    await rebuild(populated, driver, settings)
    assert await findings(populated, driver) == []
    kept = await driver.execute_query("MATCH (a:Analyst) RETURN count(a) AS analysts")
    assert kept.records[0]["analysts"] == 1


async def test_contacts_of_a_family_that_the_wipe_took_do_not_stay(
    populated: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a relay leaves that was writing a family while the wipe took its node, and the record has lost meanwhile."""

    async def once_it_is_wiped(driver: AsyncDriver) -> None:
        await ensure_constraints(driver)
        await driver.execute_query(
            "CREATE (:Contact {id: 777777, version: 1, email: 'gone@x.example'})-[:HAS_EMAIL]->"
            "(:Email {value: 'gone@x.example'})"
        )

    monkeypatch.setattr("nexus_graph.graph.rebuild.ensure_constraints", once_it_is_wiped)
    await rebuild(populated, driver, settings)
    assert await findings(populated, driver) == []


async def test_a_family_that_grows_during_the_wipe_is_whole_afterwards(
    populated: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay trusts what a family's node says of it, and the wipe has taken its contacts already."""
    await rebuild(populated, driver, settings)
    wiping = rebuilding._run_alone

    async def grow_meanwhile(driver: AsyncDriver, name: str) -> None:
        await wiping(driver, name)
        if name == "wipe":
            await populated.execute("DELETE FROM outbox")
            grown = await identify(populated, *((email, f"new {email}") for (email,) in carried))
            await project(driver, await read_states(populated, sorted(set(grown))), settings)

    carried = await populated.fetch("SELECT DISTINCT email FROM contacts WHERE deleted_at IS NULL")
    monkeypatch.setattr(rebuilding, "_run_alone", grow_meanwhile)
    await rebuild(populated, driver, settings)
    assert await findings(populated, driver) == []


async def test_rebuild_beside_relay_and_traffic(
    populated: Pool, driver: AsyncDriver, settings: Settings, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.graph.rebuild.BATCH_FAMILIES", 3)
    monkeypatch.setattr("nexus_graph.relay.BATCH_ROWS", 20)
    stopping = asyncio.Event()

    async def traffic() -> None:
        while not stopping.is_set():
            await identify(populated, *_pairs(rng, 60, 4))
            if rng.random() < 0.3:
                living = await populated.fetch("SELECT id FROM contacts WHERE deleted_at IS NULL")
                await soft_delete(populated, rng.choice(living)["id"])

    async with relaying(settings) as relay:
        await relay.active.wait()
        writing = asyncio.create_task(traffic())
        for _ in range(3):
            await rebuild(populated, driver, settings)
        stopping.set()
        await writing
        await relay.drained()
    assert await outbox_rows(populated) == []
    assert await findings(populated, driver) == []


async def test_a_graph_that_lost_its_constraints_and_holds_duplicates(
    populated: Pool, driver: AsyncDriver, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await driver.execute_query("DROP CONSTRAINT contact_id")
    await driver.execute_query("UNWIND [1, 1] AS id CREATE (:Contact {id: id})")
    assert await asyncio.to_thread(without_traceback, settings, verify_graph) == 1
    assert capsys.readouterr().err == "nexus-graph: the graph holds duplicates; run `nexus-graph rebuild-graph`\n"
    await rebuild(populated, driver, settings)
    assert await findings(populated, driver) == []


async def test_a_second_rebuild_is_refused_while_one_is_under_way(
    populated: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_alone = rebuilding._run_alone
    refused = []

    async def begin_another(driver: AsyncDriver, name: str) -> None:
        await running_alone(driver, name)
        with pytest.raises(RebuildUnderWay):
            await rebuild(populated, driver, settings)
        refused.append((name, await loading.command(settings, "rebuild-graph") if name == "wipe" else None))

    monkeypatch.setattr(rebuilding, "_run_alone", begin_another)
    await rebuild(populated, driver, settings)
    assert [name for name, _ in refused][-1] == "rebuild_ends"
    said = "nexus-graph: another rebuild of the graph is under way; when it ends, the graph is whole\n"
    assert dict(refused)["wipe"] == (1, "", said)
    assert await findings(populated, driver) == []
    monkeypatch.undo()
    await rebuild(populated, driver, settings)


async def test_a_rebuild_that_lost_its_lock_leaves_its_mark(
    populated: Pool, driver: AsyncDriver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may have begun, and have wiped what this one wrote."""
    running_alone = rebuilding._run_alone

    async def lose_the_lock(driver: AsyncDriver, name: str) -> None:
        await running_alone(driver, name)
        if name == "wipe":
            await populated.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )

    monkeypatch.setattr(rebuilding, "_run_alone", lose_the_lock)
    with pytest.raises(CONNECTION_LOST):
        await rebuild(populated, driver, settings)
    monkeypatch.undo()
    found = await gap(driver, populated)
    assert found is not None
    assert found.reason.endswith(" and broke off")
    await rebuild(populated, driver, settings)
    assert await gap(driver, populated) is None


@pytest.mark.parametrize("as_json", [False, True], ids=["words", "json"])
async def test_the_command_says_what_it_wrote(
    populated: Pool, settings: Settings, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    assert await rebuild_graph(settings, as_json=as_json) == 0
    output = capsys.readouterr().out
    live = await populated.fetchval("SELECT count(*) FROM contacts WHERE deleted_at IS NULL")
    if as_json:
        assert json.loads(output)["contacts"] == live
    else:
        assert f"{live} contacts in" in output
    nowhere = settings.model_copy(update={"neo4j_uri": "bolt://127.0.0.1:1"})
    assert await asyncio.to_thread(without_traceback, nowhere, rebuild_graph) == 1
    assert "ServiceUnavailable" in capsys.readouterr().err
