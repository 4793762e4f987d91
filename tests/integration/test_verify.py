"""verify finds every way in which the graph can differ from the record, and repair mends it."""

import asyncio
import json
import random

import pytest
from neo4j import AsyncDriver

from nexus_graph.commands.copies import verify_graph
from nexus_graph.config import Settings
from nexus_graph.failures import without_traceback
from nexus_graph.graph.repair import PASSES_MAX, repair
from nexus_graph.graph.verify import sample_drift, verify
from nexus_graph.store.database import Pool
from tests.stage.graphing import catch_up, findings, identify, outbox_rows, picture, relaying, soft_delete

# Family 1: contacts 1, 2 and 3, the last of them by evidence only; it was family 3. Family 4: contacts 4 and 5; the
# second was family 5. Family 6 is gone.
PEOPLE = [
    ("a@x.example", "+15550000001"),
    ("a@x.example", "+15550000002"),
    ("b@x.example", "+15550000003"),
    ("c@x.example", "+15550000004"),
    ("d@x.example", "+15550000005"),
    ("c@x.example", "+15550000005"),
    ("a@x.example", "+15550000003"),
    ("e@x.example", None),
]

# What is done to the graph, and how verify must call it: (kind, id or None where Neo4j gave the name, what differs).
PLANTED: dict[str, tuple[str, set[tuple[str, int | None, str]]]] = {
    "edge to an email deleted": (
        "MATCH (:Contact {id: 3})-[r:HAS_EMAIL]->() DELETE r",
        {("family", 1, "edges"), ("identifier", None, "belongs to nothing")},
    ),
    "edge to a phone doubled": (
        "MATCH (c:Contact {id: 2})-[:HAS_PHONE]->(p) CREATE (c)-[:HAS_PHONE]->(p)",
        {("family", 1, "edges")},
    ),
    "last tie of a contact deleted": (
        "MATCH (:Contact {id: 3})-[r:HAS_PHONE]->() DELETE r",
        {("family", 1, "members")},
    ),
    "link deleted": (
        "MATCH (:Contact {id: 3})-[r:LINKED_TO]->() DELETE r",
        {("family", 1, "edges")},
    ),
    "link to another": (
        "MATCH (c:Contact {id: 3})-[r:LINKED_TO]->(), (d:Contact {id: 2}) DELETE r CREATE (c)-[:LINKED_TO]->(d)",
        {("family", 1, "edges")},
    ),
    "place in the family deleted": (
        "MATCH (:Contact {id: 3})-[r:IN_FAMILY]->() DELETE r",
        {("family", 1, "residents"), ("family", 1, "edges")},
    ),
    "place in another family": (
        "MATCH (c:Contact {id: 3}), (f:Family {id: 4}) CREATE (c)-[:IN_FAMILY]->(f)",
        {("family", 4, "residents"), ("family", 1, "edges")},
    ),
    "email changed": (
        "MATCH (c:Contact {id: 2}) SET c.email = 'z@x.example'",
        {("family", 1, "email"), ("family", 1, "edges")},
    ),
    "phone removed": (
        "MATCH (c:Contact {id: 4}) REMOVE c.phoneNumber",
        {("family", 4, "phoneNumber"), ("family", 4, "edges")},
    ),
    "precedence changed": (
        "MATCH (c:Contact {id: 2}) SET c.linkPrecedence = 'primary'",
        {("family", 1, "linkPrecedence")},
    ),
    "time off by a microsecond": (
        "MATCH (c:Contact {id: 2}) SET c.createdAt = c.createdAt + duration({microseconds: 1})",
        {("family", 1, "createdAt")},
    ),
    "time removed": (
        "MATCH (c:Contact {id: 2}) REMOVE c.createdAt",
        {("family", 1, "createdAt")},
    ),
    "contact deleted": (
        "MATCH (c:Contact {id: 2}) DETACH DELETE c",
        {("family", 1, "members"), ("family", 1, "residents"), ("identifier", None, "belongs to nothing")},
    ),
    "primary deleted": (
        "MATCH (c:Contact {id: 4}) DETACH DELETE c",
        {("family", 4, "members"), ("family", 4, "residents"), ("identifier", None, "belongs to nothing")},
    ),
    "contact added": (
        "CREATE (:Contact {id: 99, email: 'a@x.example', version: 1})",
        {("contact", 99, "not in the record")},
    ),
    "contact added in the family": (
        "MATCH (e {value: 'a@x.example'}), (f:Family {id: 1}) "  # noqa: ISC004
        "CREATE (e)<-[:HAS_EMAIL]-(:Contact {id: 98})-[:IN_FAMILY]->(f)",
        {("contact", 98, "not in the record"), ("family", 1, "members"), ("family", 1, "residents")},
    ),
    "families tied by a contact's edge": (
        "MATCH (c:Contact {id: 4}), (e:Email {value: 'a@x.example'}) CREATE (c)-[:HAS_EMAIL]->(e)",
        {("family", 1, "members"), ("family", 4, "members")},
    ),
    "families tied by evidence": (
        "MATCH (e {value: 'a@x.example'}), (p {value: '+15550000004'}) CREATE (e)-[:SEEN_WITH {family: 1}]->(p)",
        {("family", 1, "members"), ("family", 1, "ties"), ("family", 4, "members")},
    ),
    "evidence deleted": (
        "MATCH (:Email {value: 'a@x.example'})-[r:SEEN_WITH]->() DELETE r",
        {("family", 1, "members"), ("family", 1, "ties")},
    ),
    "evidence doubled": (
        "MATCH (e:Email {value: 'a@x.example'})-[r:SEEN_WITH]->(p) CREATE (e)-[s:SEEN_WITH]->(p) SET s = properties(r)",
        {("family", 1, "ties")},
    ),
    "evidence of no family": (
        "MATCH (:Email {value: 'a@x.example'})-[r:SEEN_WITH]->() REMOVE r.family",
        {("family", 1, "ties"), ("tie", None, "belongs to nothing")},
    ),
    "evidence given to another family": (
        "MATCH (:Email {value: 'a@x.example'})-[r:SEEN_WITH]->() SET r.family = 4",
        {("family", 1, "ties"), ("family", 4, "ties")},
    ),
    "evidence dated otherwise": (
        "MATCH (:Email {value: 'a@x.example'})-[r:SEEN_WITH]->() SET r.at = datetime()",
        {("family", 1, "ties")},
    ),
    "evidence from the future": (
        "MATCH (:Email {value: 'a@x.example'})-[r:SEEN_WITH]->() SET r.version = 1000000",
        {("family", 1, "ties")},
    ),
    "email of nobody": (
        "CREATE (:Email {value: 'nobody@x.example'})",
        {("identifier", None, "belongs to nothing")},
    ),
    "stale version": (
        "MATCH (f:Family {id: 1}) SET f.version = 1",
        {("family", 1, "version"), ("family", 1, "contact version"), ("family", 1, "ties")},
    ),
    "version ahead of the record": (
        "MATCH (f:Family {id: 1}) SET f.version = 1000000",
        {("family", 1, "version")},
    ),
    "a contact's version ahead of the record": (
        "MATCH (c:Contact {id: 2}) SET c.version = 1000000, c.email = 'z@x.example'",
        {("family", 1, "contact version"), ("family", 1, "email"), ("family", 1, "edges")},
    ),
    "a contact's version removed": (
        "MATCH (c:Contact {id: 2}) REMOVE c.version",
        {("family", 1, "contact version")},
    ),
    "size changed": (
        "MATCH (f:Family {id: 1}) SET f.size = 2",
        {("family", 1, "size")},
    ),
    "family deleted": (
        "MATCH (f:Family {id: 1}) DETACH DELETE f",
        {("family", 1, "missing"), ("tie", None, "belongs to nothing")},
    ),
    "family buried alive": (
        "MATCH (f:Family {id: 4}) SET f:Tombstone",
        {("family", 4, "tombstone"), ("tie", None, "belongs to nothing")},
    ),
    "merged family revived": (
        "MATCH (f:Family {id: 5}) REMOVE f:Tombstone",
        {("family", 5, "tombstone")},
    ),
    "tombstone removed": (
        "MATCH (f:Family {id: 5}) DETACH DELETE f",
        {("family", 5, "missing")},
    ),
    "family added": (
        "CREATE (:Family {id: 99, version: 1000000, size: 0})",
        {("family", 99, "not in the record")},
    ),
    "contact without a name": (
        "CREATE (:Contact {email: 'a@x.example'})",
        {("node", None, "belongs to nothing")},
    ),
    "everything deleted": (
        "MATCH (n) DETACH DELETE n",
        {("family", family_id, "missing") for family_id in (1, 3, 4, 5, 6)},
    ),
}  # fmt: skip


@pytest.fixture
async def agreeing(pool: Pool, driver: AsyncDriver, settings: Settings) -> Settings:
    """Both stores hold the people above, and agree."""
    await identify(pool, *PEOPLE)
    gone = await pool.fetchval("SELECT id FROM contacts WHERE email = 'e@x.example'")
    await soft_delete(pool, gone)
    await catch_up(pool, driver, settings)
    assert await findings(pool, driver) == []
    return settings


async def test_planted_drift_is_found_and_mended(
    pool: Pool, driver: AsyncDriver, agreeing: Settings, subtests: pytest.Subtests
) -> None:
    whole = await picture(driver)
    for drift, (statement, expected) in PLANTED.items():
        with subtests.test(drift):
            await driver.execute_query(statement)
            found = await findings(pool, driver)
            assert {
                (kind, ref if isinstance(ref, int) else None, difference)
                for kind, ref, differs in found
                for difference in differs
            } == expected
            await repair(pool, driver, agreeing, found)
            assert await findings(pool, driver) == []
            assert await picture(driver) == whole


async def test_drift_on_drift_is_mended(pool: Pool, driver: AsyncDriver, agreeing: Settings) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    whole = await picture(driver)
    for name in random.Random(seed).sample([name for name in PLANTED if name != "everything deleted"], 12):
        await driver.execute_query(PLANTED[name][0])
    found = await findings(pool, driver)
    assert found
    for _ in range(PASSES_MAX):
        await repair(pool, driver, agreeing, found)
        found = await findings(pool, driver)
    assert found == []
    assert await picture(driver) == whole


async def test_what_the_relay_has_still_to_do_is_not_drift(pool: Pool, driver: AsyncDriver, agreeing: Settings) -> None:
    await identify(pool, ("late@x.example", "+15550000009"))
    comparing = asyncio.create_task(findings(pool, driver))
    async with relaying(agreeing):
        assert await comparing == []


@pytest.mark.usefixtures("agreeing")
async def test_what_nobody_will_do_is_drift(pool: Pool, driver: AsyncDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    await identify(pool, ("late@x.example", "+15550000009"))
    await pool.execute("UPDATE outbox SET parked_at = now(), attempts = 5")
    (found,) = await findings(pool, driver)
    assert found.differs == ("missing",)
    monkeypatch.setattr("nexus_graph.graph.verify.SETTLE_SECONDS", 0.2)
    await pool.execute("UPDATE outbox SET parked_at = NULL")
    assert await findings(pool, driver) == [found]
    assert len(await outbox_rows(pool)) == 1


async def test_verify_beside_live_traffic_finds_nothing(
    pool: Pool, driver: AsyncDriver, agreeing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    stopping = asyncio.Event()

    async def traffic() -> None:
        while not stopping.is_set():
            pairs = [(f"t{rng.randrange(40)}@x.example", f"+1555{rng.randrange(40):07d}") for _ in range(8)]
            await identify(pool, *pairs)
            if rng.random() < 0.3:
                await soft_delete(pool, await pool.fetchval("SELECT max(id) FROM contacts WHERE deleted_at IS NULL"))

    monkeypatch.setattr("nexus_graph.graph.verify.BATCH_FAMILIES", 7)
    monkeypatch.setattr("nexus_graph.graph.verify.SETTLE_SECONDS", 1.0)
    async with relaying(agreeing) as relay:
        writing = asyncio.create_task(traffic())
        for _ in range(3):
            assert await findings(pool, driver) == []
            assert await sample_drift(pool, driver) == []
        stopping.set()
        await writing
        await relay.drained()
    assert await findings(pool, driver) == []


async def test_a_sample_sees_drift(pool: Pool, driver: AsyncDriver, agreeing: Settings) -> None:
    await driver.execute_query("MATCH (f:Family) SET f.size = 77")
    seen: set[int] = set()
    while seen != {1, 3, 4, 5, 6}:
        seen |= set(await sample_drift(pool, driver))


async def test_the_record_itself_is_held_to_its_shape(pool: Pool, driver: AsyncDriver, agreeing: Settings) -> None:
    """A chain: a secondary that is linked to a secondary."""
    await pool.execute("UPDATE contacts SET linked_id = 2 WHERE id = 3")
    found = await findings(pool, driver)
    assert ("contact", 3, ("in no family of the record",)) in found
    await repair(pool, driver, agreeing, found)
    assert ("contact", 3, ("in no family of the record",)) in await findings(pool, driver)


async def test_a_pass_remembers_so_much_and_says_that_there_is_more(
    pool: Pool, driver: AsyncDriver, agreeing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await driver.execute_query("MATCH (n) DETACH DELETE n")
    monkeypatch.setattr("nexus_graph.graph.verify.FINDINGS_MAX", 2)
    report = await verify(pool, driver)
    assert (report.drift, report.complete) == (2, False)
    assert list(report.lines())[-1] == "drift 2 or more"


@pytest.mark.parametrize("as_json", [False, True], ids=["words", "json"])
async def test_the_commands_say_what_they_found_and_never_who(
    driver: AsyncDriver, agreeing: Settings, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    async def command(*, repair: bool = False) -> tuple[int, str]:
        code = await verify_graph(agreeing, mend=repair, as_json=as_json)
        output = capsys.readouterr().out
        assert "example" not in output
        assert "+1555" not in output
        return code, output

    code, output = await command()
    assert code == 0
    assert json.loads(output)["drift"] == 0 if as_json else output.splitlines()[-1] == "drift 0"
    await driver.execute_query(
        "MATCH (c:Contact {id: 2}) SET c.email = 'z@x.example' CREATE (:Email {value: 'y@x.example'})"
    )
    code, output = await command()
    assert code == 1
    if as_json:
        assert {"kind": "family", "ref": 1, "differs": ["email", "edges"]} in json.loads(output)["findings"]
    else:
        assert "family 1: email, edges" in output.splitlines()
        assert output.splitlines()[-1] == "drift 2"
    code, output = await command(repair=True)
    assert code == 0
    assert json.loads(output)["drift"] == 0 if as_json else output.splitlines()[-1] == "drift 0"


async def test_a_server_that_is_away_is_said_without_a_traceback(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = settings.model_copy(update={"neo4j_uri": "bolt://127.0.0.1:1"})
    assert await asyncio.to_thread(without_traceback, nowhere, verify_graph) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("nexus-graph: Neo4j at 127.0.0.1:1 (NEO4J_URI) does not answer (ServiceUnavailable)")
