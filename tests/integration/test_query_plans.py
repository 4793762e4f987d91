"""Reads stay index reads at 100,000 contacts, and from the first row on."""

import json
from typing import Any

import asyncpg
import pytest

from nexus_graph.config import Settings
from nexus_graph.statements import sql
from nexus_graph.store.database import Connection, Pool

PEOPLE = 25_000
CONTACTS_EACH = 4


@pytest.fixture
async def populated(pool: Pool) -> Pool:
    """100,000 contacts in families of four that share an email or a phone, by plain SQL."""
    await _populate(pool)
    return pool


async def _populate(record: Pool) -> None:
    await record.execute(
        """
        WITH primaries AS (
            INSERT INTO contacts (email, phone_number, link_precedence)
            SELECT 'e' || n || '@x.example', 'p' || n, 'primary' FROM generate_series(1, $1::int) AS n
            RETURNING id, email, phone_number
        )
        INSERT INTO contacts (email, phone_number, linked_id, link_precedence)
        SELECT primaries.email, primaries.phone_number || '-' || k, primaries.id, 'secondary'
        FROM primaries, generate_series(2, $2::int) AS k
        """,
        PEOPLE,
        CONTACTS_EACH,
    )


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]


async def _explain(pool: Pool, statement: str, *arguments: object) -> list[dict[str, Any]]:
    """The nodes of the plan that ran, as the API would run it."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off")
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
    return _nodes(json.loads(plan)[0]["Plan"])


def _indexes(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in nodes if "Index Name" in node}


@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "with first statistics only"])
async def test_a_family_read_probes_the_partial_indexes(populated: Pool, *, analyzed: bool) -> None:
    if analyzed:
        await populated.execute("ANALYZE contacts")
    middle = await populated.fetchval(
        "SELECT id FROM contacts WHERE email = 'e12345@x.example' AND linked_id IS NOT NULL LIMIT 1"
    )
    (family,) = await populated.fetch(sql("family_of_contact"), [middle])
    assert len(family["contact_ids"]) == CONTACTS_EACH
    nodes = await _explain(populated, sql("family_of_contact"), [middle])
    assert {"contacts_pkey", "idx_contacts_linked_id"} <= _indexes(nodes)
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
    assert sum(node.get("Rows Removed by Filter", 0) * node["Actual Loops"] for node in nodes) < 100


@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "with first statistics only"])
async def test_the_fast_path_probes_the_partial_indexes(populated: Pool, *, analyzed: bool) -> None:
    if analyzed:
        await populated.execute("ANALYZE contacts")
    asked = ["e777@x.example", "e778@x.example"], ["p777", None]
    nodes = await _explain(populated, sql("resolve_identities"), *asked, True)
    assert {"idx_contacts_email", "idx_contacts_phone", "contacts_pairing"} <= _indexes(nodes)
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
    assert sum(node.get("Rows Removed by Filter", 0) * node["Actual Loops"] for node in nodes) < 100


@pytest.mark.parametrize("rows", [0, 1, 10, 1_000])
async def test_the_fast_path_probes_tables_that_looked_small(populated: Pool, rows: int) -> None:
    """Statistics may be of a time when there was hardly any evidence. A plan that hashed all of it, as EXISTS in a
    filter allows, was cheap then, and cost as much a call as all other work once there was more.
    """
    await populated.execute(
        """
        INSERT INTO evidence (email, phone_number, family_id, seen_at)
        SELECT 'e' || n || '@x.example', 'q' || n, n, now() FROM generate_series(1, $1::int) AS n
        """,
        rows,
    )
    await populated.execute("ANALYZE contacts, evidence, identity_events")
    asked = ["e777@x.example", "e778@x.example"], ["p777", "q778"]
    nodes = await _explain(populated, sql("resolve_identities"), *asked, True)
    assert "evidence" in {node.get("Relation Name") for node in nodes}
    assert [node for node in nodes if "Relation Name" in node and "Index Cond" not in node] == []


@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "with first statistics only"])
async def test_a_batch_probes_tables_that_were_empty(settings: Settings, pool: Pool, *, analyzed: bool) -> None:
    """Plans live as long as a connection: those made when there was nothing serve when there is much. Rows of each
    outcome, in batches that hold some that concern each other.
    """
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await _decide_batches(connection, first=PEOPLE + 1)
    await _populate(pool)
    if analyzed:
        await pool.execute("ANALYZE")
    async with connection.transaction():
        assert await _decide_batches(connection, first=100) == {"CREATED", "LINKED", "MERGED", "MATCHED"}
        read = await connection.fetch(
            """
            SELECT relname, seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables
            WHERE relname IN ('contacts', 'evidence', 'identity_events', 'outbox', 'aliases')
            """
        )
    await connection.close()
    assert [row["relname"] for row in read if row["seq_scan"]] == []
    assert 0 < sum(row["idx_tup_fetch"] for row in read) < 2_000


async def test_unions_read_no_aliases_of_others(settings: Settings, populated: Pool) -> None:
    """Statistics of when there were none. A plan that joined the losers with all aliases was cheap then."""
    await populated.execute("ANALYZE")
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    unions = [(f"e{n}@x.example", f"p{n + 1}") for n in range(1, 201, 2)]
    async with connection.transaction():
        for call in ("identify_in_turn($1, $2, $3, 1000)", "identify_together($1, $2, $3, 1000, 3)"):
            half, unions = unions[:50], unions[50:]
            for start in range(0, 50, 5):
                rows = await connection.fetch(
                    f"SELECT outcome FROM {call}",
                    [email for email, _ in half[start : start + 5]],
                    [phone for _, phone in half[start : start + 5]],
                    [None] * 5,
                )
                assert {row["outcome"] for row in rows} == {"MERGED"}
        read = await connection.fetchval(
            "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'aliases'"
        )
    await connection.close()
    assert read < 200


INLINED = {
    "resolve_identities": (["e1@x.example"], ["p1"], True),
    "family_states": ([1],),
    "family_of_contact": ([1],),
    "import_known_emails": (["e1@x.example"],),
    "import_known_phones": (["p1"],),
    "import_known_pairings": (["e1@x.example"], ["p1"]),
    "import_families": ([1], 10),
    "renormalize_carriers": (["e1@x.example"], 10),
    "renormalize_twins": (["e1@x.example"], ["p1"]),
    "contacts_by_identifier": (["e1@x.example"], ["p1"]),
}
"""Statements that ask the functions of 0002_lookups, with arguments."""


@pytest.mark.parametrize("statement", INLINED)
async def test_lookups_are_planned_with_the_statements_that_ask_them(populated: Pool, statement: str) -> None:
    lookups = await _lookups(populated)
    assert any(f"{name}(" in sql(statement) for name in lookups)
    nodes = await _explain(populated, sql(statement), *INLINED[statement])
    assert _calls(nodes) & lookups == set()
    assert "contacts" in {node.get("Relation Name") for node in nodes}
    assert [node for node in nodes if node["Node Type"] == "Seq Scan"] == []


async def test_a_lookup_that_cannot_be_inlined_is_caught(populated: Pool) -> None:
    """A planted bug: STRICT looks harmless, and makes a call of it."""
    await populated.execute("ALTER FUNCTION family_in_order STRICT")
    nodes = await _explain(populated, sql("resolve_identities"), ["e1@x.example"], ["p1"], True)
    assert "family_in_order" in _calls(nodes)


@pytest.mark.parametrize("call", ["identify_in_turn($1, $2, $3, 1000)", "identify_together($1, $2, $3, 1000, 1)"])
async def test_lookups_are_planned_with_identify(settings: Settings, populated: Pool, call: str) -> None:
    """What is inlined is no call: PostgreSQL counts calls of functions. Rows of each kind, refusals and all."""
    lookups = await _lookups(populated)
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await connection.execute("SET track_functions = 'all'")
    pairs = [("new@x.example", "new"), ("e1@x.example", "fresh"), ("e2@x.example", "p3"), ("e4@x.example", "p4-2")]
    async with connection.transaction():
        rows = await connection.fetch(
            f"SELECT outcome FROM {call}", [email for email, _ in pairs], [phone for _, phone in pairs], [None] * 4
        )
        called = await connection.fetch("SELECT funcname FROM pg_stat_xact_user_functions")
    await connection.close()
    assert [row["outcome"] for row in rows] == ["CREATED", "LINKED", "MERGED", "MATCHED"]
    called_names = {row["funcname"] for row in called}
    assert "take_write_lock" in called_names
    assert called_names & lookups == set()


async def _lookups(pool: Pool) -> set[str]:
    """The names of the functions of 0002_lookups: the only ones of ours that read and return tables."""
    rows = await pool.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proretset AND provolatile = 's'"
    )
    return {row["proname"] for row in rows}


def _calls(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Function Name"] for node in nodes if node["Node Type"] == "Function Scan" and "Function Name" in node}


MEETINGS: dict[str, list[tuple[str, str]]] = {
    "one email": [("e1@x.example", f"hot{n}") for n in range(64)],
    "one family by several emails": [(f"e{1 + n % 2}@x.example", f"hot{n}") for n in range(64)],
    **{
        f"every {apart} rows": [
            (f"e{n if n % apart else 1}@x.example", f"p{n - 1}-2" if n % apart else f"hot{n}") for n in range(1, 65)
        ]
        for apart in (2, 3, 4, 5, 8, 16, 32)
    },
    "none": [(f"e{n}@x.example", f"new{n}") for n in range(64)],
}


@pytest.mark.parametrize("meeting", MEETINGS)
async def test_look_ups_are_bounded_however_rows_meet(settings: Settings, populated: Pool, meeting: str) -> None:
    """n + 2n together and n in turn for n rows, counted by scans of the index that finds an email."""
    batch = MEETINGS[meeting]
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    async with connection.transaction():
        await connection.fetch(
            "SELECT outcome FROM identify_together($1, $2, $3, 1000, 3)",
            [email for email, _ in batch],
            [phone for _, phone in batch],
            [None] * len(batch),
        )
        look_ups = await connection.fetchval("SELECT pg_stat_get_xact_numscans('idx_contacts_email'::regclass)")
    await connection.close()
    assert len(batch) <= look_ups <= 4 * len(batch)


async def test_a_hot_family_is_read_once_for_each_row(settings: Settings, pool: Pool) -> None:
    """Rows that name the same identifier are decided one after another; none is read for what cannot be decided yet."""
    size, rows = 500, 32
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await connection.fetch(
        "SELECT outcome FROM identify_in_turn($1, $2, $3, 1000)",
        ["hot@x.example"] * size,
        [f"old{n}" for n in range(size)],
        [None] * size,
    )
    await connection.execute("SELECT pg_stat_force_next_flush()")  # what came before is counted apart
    async with connection.transaction():
        answers = await connection.fetch(
            "SELECT cardinality(contact_ids) FROM identify_together($1, $2, $3, 1000, 3)",
            ["hot@x.example"] * rows,
            [f"new{n}" for n in range(rows)],
            [None] * rows,
        )
        scans = await connection.fetchval("SELECT pg_stat_get_xact_numscans('idx_contacts_linked_id'::regclass)")
        read = await connection.fetchval("SELECT pg_stat_get_xact_tuples_fetched('idx_contacts_linked_id'::regclass)")
    await connection.close()
    assert [row[0] for row in answers] == list(range(size + 1, size + rows + 1))
    assert rows <= scans <= 2 * rows
    assert read <= (rows + 1) * (size + rows)


async def _decide_batches(connection: Connection, *, first: int) -> set[str]:
    """Ten batches of twelve rows, for people of these numbers and on; what became of the rows."""
    outcomes: set[str] = set()
    for n in range(first, first + 100, 10):
        batch = [
            (f"new{n}@x.example", f"new{n}"),
            (f"e{n + 1}@x.example", f"fresh{n}"),
            (f"e{n + 2}@x.example", f"p{n + 3}"),
            (f"e{n + 4}@x.example", f"p{n + 5}"),
            (f"e{n + 6}@x.example", f"p{n + 6}"),
            (f"e{n + 7}@x.example", f"p{n + 7}-2"),
            (f"e{n + 2}@x.example", f"p{n + 3}"),  # of families that an earlier one changed
            *((f"e{n + 8}@x.example", f"p{n + 8}-{k}-new") for k in range(5)),  # of one family
        ]
        rows = await connection.fetch(
            "SELECT outcome FROM identify_together($1, $2, $3, 1000, 3)",
            [email for email, _ in batch],
            [phone for _, phone in batch],
            [None] * len(batch),
        )
        outcomes |= {row["outcome"] for row in rows}
    return outcomes
