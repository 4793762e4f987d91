"""nexus-graph demo, on real servers with a relay: what it loads and shows, and that the second time changes nothing."""

import asyncio
import re
from collections import Counter

import pytest

from nexus_graph.bulk.contacts import read_contacts
from nexus_graph.bulk.rows import open_rows
from nexus_graph.config import Settings
from nexus_graph.demo import run
from nexus_graph.demo.tour import CHAIN, EVENTS, SHARED_PHONE, UNION
from nexus_graph.identity.opening import Identity
from nexus_graph.model import FamilyKey, Source
from nexus_graph.store.database import Pool
from tests.property.oracle import Oracle
from tests.stage.running import running_relay


def _oracle() -> tuple[Oracle, Counter[str]]:
    """The events, one after another."""
    oracle, outcomes = Oracle(), Counter[str]()
    with open_rows(EVENTS, line_max_bytes=1_000) as rows:
        for contact in read_contacts(rows, region=None, strict=True):
            for email, phone in contact.pairs:
                outcomes[oracle.identify(email, phone).outcome] += 1
    return oracle, outcomes


def _told(output: str) -> dict[str, int]:
    """The counts of the summary."""
    return {
        word: int(count.replace(",", "")) for count, word in re.findall(r"^ *([\d,]+)  +(\w+)\b", output, re.MULTILINE)
    }


async def test_the_demo_loads_and_shows_three_families(
    settings: Settings, pool: Pool, identity: Identity, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle, outcomes = _oracle()
    async with running_relay(settings):
        assert await asyncio.to_thread(run, settings) == 0
        first = capsys.readouterr().out
        assert await asyncio.to_thread(run, settings) == 0
        second = capsys.readouterr().out

    rows = sum(outcomes.values())
    assert _told(first) == {"rows": rows, **dict.fromkeys(("REFUSED", "invalid", "failed"), 0), **outcomes}
    assert _told(second) == {**dict.fromkeys(_told(first), 0), "rows": rows, "MATCHED": rows}
    assert first[first.index("A chain") :] == second[second.index("A chain") :]
    contacts = await pool.fetch("SELECT email, phone_number FROM contacts ORDER BY id")
    assert [tuple(contact) for contact in contacts] == oracle.rows
    assert await pool.fetchval("SELECT count(*) FROM contacts WHERE linked_id IS NULL") == len(oracle.families())
    for sight in (CHAIN, UNION, SHARED_PHONE):
        family = await identity.families.family(FamilyKey("email", sight.email), source=Source.GRAPH)
        assert family is not None
        assert sight.title in first
        # Every contact once, with all that is known of it.
        for contact in family.contacts:
            precedence = "primary" if contact is family.primary else "secondary"
            named = "  ".join(value for value in (contact.email, contact.phone) if value)
            assert first.count(f"#{contact.id} {precedence}  {named}") == 1
    words = " ".join(first.replace("│", " ").split())
    assert re.search(r"by line [\d,]+, which named jonas@lindqvist\.example with \+46846500421", words)
    assert re.search(r"http://127\.0\.0\.1:\d+/browser/", first)
    union = await identity.families.family(FamilyKey("email", UNION.email), source=Source.GRAPH)
    assert union is not None
    assert f"MATCH (:Family {{id: {union.id}}})<-" in first


async def test_the_demo_says_that_the_graph_is_behind(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_graph.graph.reads.WAIT_MAX_SECONDS", 0.0)
    monkeypatch.setattr("nexus_graph.demo.tour.GRAPH_WAIT_SECONDS", 0.0)
    assert await asyncio.to_thread(run, settings) == 1
    assert "the graph has not caught up within 0 s: does the relay run?" in capsys.readouterr().err
