"""`nexus-graph renormalize`: its report, the identifiers that it leaves alone, its end, and identify meanwhile."""

import asyncio
import csv
import json
import stat
from pathlib import Path

import pytest

from nexus_graph.bulk import renormalize as renormalizing
from nexus_graph.bulk.renormalize import Report, renormalize
from nexus_graph.commands.renormalize import run
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.failures import without_traceback
from nexus_graph.identifiers.normalize import identify_request
from nexus_graph.identity.opening import Identity
from nexus_graph.store.database import Pool, connect_pool
from tests.stage.graphing import Pair, identify

OLD: list[Pair] = [
    ("ada@bücher.example", "+5215512345601"),
    ("ada@xn--bcher-kva.example", "+14155552671"),
    ("grace@example.com", "+525512345601"),
    ("josé@example.es", "+15550123"),
    ("<ida@example.com>", "+14155552672"),
    ("ida@example.com", "+14155552672"),
]


async def _renormalized(settings: Settings, *, dry_run: bool = False) -> Report:
    pool = await connect_pool(settings, role="nexus_import", size=1)
    try:
        return await renormalize(pool, settings, dry_run=dry_run)
    finally:
        await pool.close()


async def _command(settings: Settings, *, dry_run: bool, list_to: Path | None, as_json: bool) -> int:
    def command(settings: Settings) -> int:
        return run(settings, dry_run=dry_run, list_to=list_to, as_json=as_json)

    return await asyncio.to_thread(without_traceback, settings, command)


async def _values(pool: Pool) -> list[tuple[int, int, str | None, str | None]]:
    rows = await pool.fetch(
        "SELECT id, coalesce(linked_id, id), email, phone_number FROM contacts WHERE deleted_at IS NULL ORDER BY id"
    )
    return [tuple(row) for row in rows]


async def test_a_dry_run_tells_in_ids_and_writes_nothing(
    settings: Settings, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await identify(pool, *OLD)
    before = await _values(pool), await pool.fetchval("SELECT last_value FROM change_seq")
    code = await _command(settings, dry_run=True, list_to=None, as_json=True)
    told, said = capsys.readouterr()
    assert (code, said) == (0, "")
    answer = json.loads(told)
    assert answer["dryRun"] is True
    assert (answer["emails"]["changed"], answer["emails"]["invalid"]) == (2, 1)
    assert (answer["phoneNumbers"]["changed"], answer["phoneNumbers"]["invalid"]) == (1, 1)
    assert (answer["familiesJoined"], answer["contactsRetired"]) == (2, 1)
    assert {entry["reason"].split()[0]: entry["firstContacts"] for entry in answer["left"]} == {
        "email": [4],
        "phoneNumber": [4],
    }
    assert "@" not in told.replace("before the @", "")
    assert "1234560" not in told
    assert (await _values(pool), await pool.fetchval("SELECT last_value FROM change_seq")) == before


async def test_what_is_not_canonical_is_changed_and_what_is_invalid_is_left(
    settings: Settings, pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await identify(pool, *OLD)
    file = tmp_path / "findings.csv"
    code = await _command(settings, dry_run=False, list_to=file, as_json=False)
    assert code == 0
    assert "contacts soft-deleted, as another has the same email and phone: 1" in capsys.readouterr().out
    assert await _values(pool) == [
        (1, 1, "ada@xn--bcher-kva.example", "+525512345601"),
        (2, 1, "ada@xn--bcher-kva.example", "+14155552671"),
        (3, 1, "grace@example.com", "+525512345601"),
        (4, 4, "josé@example.es", "+15550123"),
        (5, 5, "ida@example.com", "+14155552672"),
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with file.open(newline="", encoding="utf-8") as stream:
        listed = {
            row["value"]: (row["finding"], row["contact_ids"], row["canonical"]) for row in csv.DictReader(stream)
        }
    assert listed == {
        "ada@bücher.example": ("MERGED", "1", "ada@xn--bcher-kva.example"),
        "<ida@example.com>": ("CHANGED", "5", "ida@example.com"),
        "josé@example.es": ("INVALID", "4", ""),
        "+5215512345601": ("MERGED", "1", "+525512345601"),
        "+15550123": ("INVALID", "4", ""),
    }
    events = await pool.fetch("SELECT kind, count(*) FROM identity_events GROUP BY kind")
    assert dict(map(tuple, events)) == {
        "contact_created": 5,
        "contact_linked": 1,
        "families_merged": 2,
        "contact_deleted": 1,
        "identifier_renormalized": 3,
    }
    # What identify makes of the old spellings today is known.
    requests = [identify_request(*pair, region=None, request_id=None) for pair in OLD if pair[0] != "josé@example.es"]
    await identify(pool, *((request.email, request.phone) for request in requests))
    assert len(await _values(pool)) == 5


async def test_a_union_past_the_family_limit_is_refused_once_and_listed(settings: Settings, pool: Pool) -> None:
    small = settings.model_copy(update={"family_limit_contacts": 2})
    await identify(
        pool, ("a@bücher.example", "1111111"), ("b@example.com", "1111111"), ("a@xn--bcher-kva.example", None)
    )
    before = await _values(pool)
    foreseen, done = await _renormalized(small, dry_run=True), await _renormalized(small)
    assert (foreseen.unions_refused, done.unions_refused, done.tallies["email"].changed) == (1, 1, 0)
    assert [left.first_contacts for left in done.left.values()] == [[1]]
    assert await _values(pool) == before
    newest = await pool.fetchval("SELECT last_value FROM change_seq")
    assert (await _renormalized(small)).unions_refused == 1
    assert await pool.fetchval("SELECT last_value FROM change_seq") == newest
    assert await pool.fetchval("SELECT count(*) FROM identity_events WHERE kind = 'union_refused'") == 1


async def test_a_region_that_was_set_later_joins_its_local_numbers(settings: Settings, pool: Pool) -> None:
    await identify(pool, ("a@example.com", "0301234567"), ("b@example.com", "+49301234567"), (None, "12"))
    german = settings.model_copy(update={"phone_region": "DE"})
    report = await _renormalized(german)
    assert (report.families_joined, report.tallies["phoneNumber"].invalid) == (1, 1)
    assert [row[1] for row in await _values(pool)] == [1, 1, 3]


async def test_identify_goes_on_meanwhile(
    settings: Settings, pool: Pool, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of canonical requests come between the transactions: all end in one family a person."""
    monkeypatch.setattr(renormalizing, "CHANGES_AT_ONCE", 1)
    people = 40
    await identify(pool, *((f"p{person}@bücher.example", f"+229970000{person:02}") for person in range(people)))

    async def call(person: int) -> None:
        old = identify_request(f"p{person}@bücher.example", None, region=None, request_id=None)
        await identity.identify(old)
        new = identify_request(f"q{person}@example.com", f"+229 97 00 00 {person:02}", region=None, request_id=None)
        await identity.identify(new)

    await asyncio.gather(_renormalized(settings), *map(call, range(people)))
    await _renormalized(settings)
    rows = await _values(pool)
    assert not [row for row in rows if "ü" in str(row[2]) or (row[3] and not row[3].startswith("+22901"))]
    families: dict[str, set[int]] = {}
    for _, family, email, phone in rows:
        for value in (email, phone):
            if value is not None:
                families.setdefault(value, set()).add(family)
    assert {len(found) for found in families.values()} == {1}
    assert len({families[f"+2290197{person:06}"].copy().pop() for person in range(people)}) == people
    assert all(families[f"q{n}@example.com"] == families[f"+2290197{n:06}"] for n in range(people))


async def test_a_run_that_was_ended_goes_on(settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renormalizing, "CHANGES_AT_ONCE", 1)
    await identify(pool, *((f"p{person}@bücher.example", None) for person in range(4)))
    done = 0

    def stop(_: object) -> None:
        nonlocal done
        done += 1
        if done == 2:
            raise Unavailable("ended")

    importing = await connect_pool(settings, role="nexus_import", size=1)
    with pytest.raises(Unavailable):
        await renormalize(importing, settings, dry_run=False, on_finding=stop)
    await importing.close()
    assert sum("ü" in str(row[2]) for row in await _values(pool)) == 2
    assert (await _renormalized(settings)).tallies["email"].changed == 2
    assert not [row for row in await _values(pool) if "ü" in str(row[2])]


async def test_a_record_that_is_away_ends_it_with_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    away = Settings(database_url="postgresql://postgres@127.0.0.1:1/nexus")
    assert await _command(away, dry_run=True, list_to=None, as_json=True) == 1
    told, said = capsys.readouterr()
    assert told == ""
    assert said.count("\n") == 1
    assert "127.0.0.1:1" in said


async def test_a_list_that_cannot_be_written_is_named(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "missing" / "list.csv"
    assert await _command(settings, dry_run=True, list_to=file, as_json=True) == 1
    assert "cannot be written" in capsys.readouterr().err
