"""Files as people export them, through the commands: load and import read alike, say alike, and keep what is faulty."""

import csv
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from tests.stage.exports import put
from tests.stage.loading import command

both = pytest.mark.parametrize("verb", ["load", "import"])

FAULTY = """\
sep=;
Name;E-Mail;Telefon;Notiz
Ada;a@example.com;+14155551101;
Bob;b@example.com;fragt am Empfang;"zwei
Zeilen"
Cy;c@example.com;n/a;
"Dwayne;d@example.com;+14155551104;
Eve;secret;nobody's;
Fay;f@example.com;+14155551106
Gus;;+14155551107;
"""


async def _run(settings: Settings, verb: str, file: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    code, answer, errors = await command(settings, verb, str(file), "--json", *options)
    return code, json.loads(answer) if answer else {}, errors


def _faults(summary: dict[str, Any], kind: str) -> list[tuple[str | None, list[int]]]:
    return [(fault["column"], fault["firstLines"]) for fault in summary[kind]]


async def _contacts(pool: Pool) -> set[tuple[str | None, str | None]]:
    return {(row[0], row[1]) for row in await pool.fetch("SELECT email, phone_number FROM contacts")}


@both
async def test_what_is_faulty_is_said_and_kept_and_is_input_once_mended(
    settings: Settings, pool: Pool, tmp_path: Path, verb: str
) -> None:
    rejects = tmp_path / "faulty.csv"

    code, summary, errors = await _run(settings, verb, put(tmp_path, "people.csv", FAULTY), "--rejects", str(rejects))

    assert (code, errors) == (1, "")
    assert summary["columns"] == {
        "form": "CSV, separated by semicolons",
        "emails": ["E-Mail"],
        "phones": ["Telefon"],
        "unused": ["Name", "Notiz"],
    }
    assert (summary["rows"], summary["created"], summary["rejected"]) == (7, 4, 4)
    assert _faults(summary, "invalid") == [(None, [7]), ("E-Mail, Telefon", [8]), (None, [9])]
    assert _faults(summary, "dropped") == [("Telefon", [4])]
    assert _faults(summary, "empty") == [("Telefon", [6])]
    assert "secret" not in json.dumps(summary)
    assert await _contacts(pool) == {
        ("a@example.com", "+14155551101"),
        ("b@example.com", None),
        ("c@example.com", None),
        (None, "+14155551107"),
    }
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    with rejects.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream, delimiter=";")
    assert header == ["rejected_line", "rejected_column", "rejected_reason", "Name", "E-Mail", "Telefon", "Notiz"]
    assert [(row[0], row[1], row[3:]) for row in rows] == [
        ("4", "Telefon", ["Bob", "b@example.com", "fragt am Empfang", "zwei\nZeilen"]),
        ("7", "", ["Dwayne;d@example.com;+14155551104;"]),
        ("8", "E-Mail, Telefon", ["Eve", "secret", "nobody's", ""]),
        ("9", "", ["Fay", "f@example.com", "+14155551106"]),
    ]

    mended = rejects.read_text(encoding="utf-8")
    for wrong, right in (
        ("fragt am Empfang", "+14155551102"),
        ('"Dwayne;d@example.com;+14155551104;"', "Dwayne;d@example.com;+14155551104;"),
        ("secret;nobody's", "e@example.com;+14155551105"),
        ("+14155551106", "+14155551106;"),
    ):
        assert wrong in mended
        mended = mended.replace(wrong, right)
    code, summary, errors = await _run(settings, verb, put(tmp_path, "mended.csv", mended))
    assert (code, errors, summary["rows"], summary["linked"], summary["created"]) == (0, "", 4, 1, 3)
    assert summary["columns"]["unused"] == ["Name", "Notiz"]
    assert ("b@example.com", "+14155551102") in await _contacts(pool)


@both
async def test_rejects_of_json_lines_are_input_once_mended(
    settings: Settings, pool: Pool, tmp_path: Path, verb: str
) -> None:
    lines = [
        '{"email": "a@example.com", "phone": 447900901003.0}',
        '{"email": "b@example.com", "phone": 4.47901E+11, "note": "x"}',
        '{"email": "c@example.com", "email": "d@example.com"}',
        "{not JSON",
        "[]",
        "{}",
    ]
    rejects, again = tmp_path / "faulty.jsonl", tmp_path / "again.jsonl"
    file = put(tmp_path, "a.jsonl", "\n".join(lines))

    code, summary, _ = await _run(settings, verb, file, "--rejects", str(rejects))

    assert (code, summary["rows"], summary["rejected"]) == (1, 6, 5)
    assert await _contacts(pool) == {("a@example.com", "447900901003"), ("b@example.com", None)}
    kept = rejects.read_text(encoding="utf-8").splitlines()
    assert kept[0].endswith(', "email": "b@example.com", "phone": 4.47901E+11, "note": "x"}')
    assert kept[1].endswith(', "email": "c@example.com", "email": "d@example.com"}')
    assert json.loads(kept[2])["rejected_text"] == lines[3]
    assert json.loads(kept[3])["rejected_text"] == lines[4]
    # Not mended, they are rejected for the same reasons, and told once why.
    code, summary, _ = await _run(settings, verb, rejects, "--rejects", str(again))
    assert (code, summary["rejected"]) == (1, 5)
    assert all(line.count("rejected_line") == 1 for line in again.read_text(encoding="utf-8").splitlines()[:2])
    mended = "\n".join(
        [
            kept[0].replace("4.47901E+11", "447900901004"),
            kept[1].replace('"email": "c@example.com", ', ""),
            '{"email": "e@example.com"}',
        ]
    )
    code, summary, _ = await _run(settings, verb, put(tmp_path, "mended.jsonl", mended))
    assert (code, summary["linked"], summary["created"]) == (0, 1, 2)


@both
async def test_a_row_of_several_values_is_one_family(settings: Settings, pool: Pool, tmp_path: Path, verb: str) -> None:
    file = put(
        tmp_path,
        "google.csv",
        "First Name,E-mail 1 - Label,E-mail 1 - Value,E-mail 2 - Value,Phone 1 - Value,Phone 2 - Value\n"
        "Ada,Home,a1@example.com,a2@example.com ::: a3@example.com,+14155551101,+14155551102\n"
        "Bob,Home,b1@example.com,b2@example.com,,\n",
    )

    code, summary, _ = await _run(settings, verb, file)

    assert (code, summary["rows"], summary["pairs"]) == (0, 2, 6)
    assert summary["untied"] == [
        {
            "reason": "names several emails and no phone that would tie them",
            "column": "E-mail 1 - Value, E-mail 2 - Value",
            "rows": 1,
            "firstLines": [3],
        }
    ]
    families = await pool.fetch(
        "SELECT array_agg(DISTINCT email ORDER BY email) AS emails, array_agg(DISTINCT phone_number) FILTER "
        "(WHERE phone_number IS NOT NULL) AS phones FROM contacts GROUP BY coalesce(linked_id, id) ORDER BY 1"
    )
    assert [(row["emails"], sorted(row["phones"] or [])) for row in families] == [
        (["a1@example.com", "a2@example.com", "a3@example.com"], ["+14155551101", "+14155551102"]),
        (["b1@example.com"], []),
        (["b2@example.com"], []),
    ]


@both
async def test_columns_that_are_not_understood_send_nothing(
    settings: Settings, pool: Pool, tmp_path: Path, verb: str
) -> None:
    file = put(tmp_path, "a.csv", "Email,Shipping Phone\na@example.com,+14155551101\n")

    code, answer, errors = await command(settings, verb, str(file))

    assert (code, answer) == (2, "")
    assert "a.csv: Shipping Phone looks like a phone: use or leave out each" in errors
    assert await _contacts(pool) == set()
    code, summary, _ = await _run(settings, verb, file, "--map", "phone=Shipping Phone")
    assert (code, summary["created"]) == (0, 1)


@both
async def test_the_strict_refuse_the_row(settings: Settings, pool: Pool, tmp_path: Path, verb: str) -> None:
    file = put(tmp_path, "a.csv", "email,phone\na@example.com,n/a\nb@example.com,x1\nc@example.com,\n")

    code, summary, _ = await _run(settings, verb, file, "--strict")

    assert (code, summary["created"]) == (1, 1)
    assert _faults(summary, "invalid") == [("phone", [2]), ("phone", [3])]
    assert await _contacts(pool) == {("c@example.com", None)}


@both
async def test_people_are_told_first_what_was_understood(settings: Settings, tmp_path: Path, verb: str) -> None:
    code, answer, errors = await command(settings, verb, str(put(tmp_path, "people.csv", FAULTY)))

    assert (code, errors) == (1, "")
    told = [line.split() for line in answer.splitlines()]
    assert told[:5] == [
        ["people.csv"],
        ["read", "as", "CSV,", "separated", "by", "semicolons"],
        ["emails", "E-Mail"],
        ["phones", "Telefon"],
        ["not", "used", "Name,", "Notiz"],
    ]
    assert "secret" not in answer


@both
async def test_a_dry_run_needs_no_server_and_writes_nothing(settings: Settings, tmp_path: Path, verb: str) -> None:
    away = settings.model_copy(update={"database_url": type(settings.database_url)("postgresql://x@127.0.0.1:1/x")})
    file = put(tmp_path, "people.csv", FAULTY)

    code, summary, errors = await _run(away, verb, file, "--dry-run")

    assert (code, errors) == (1, "")
    assert (summary["dryRun"], summary["rows"], summary["pairs"], summary["created"]) == (True, 7, 4, 0)
    assert _faults(summary, "invalid") == [(None, [7]), ("E-Mail, Telefon", [8]), (None, [9])]
    code, answer, errors = await command(away, verb, str(file), "--dry-run", "--rejects", str(tmp_path / "r.csv"))
    assert (code, answer) == (2, "")
    assert "--dry-run writes nothing" in errors
    assert not (tmp_path / "r.csv").exists()


async def test_where_rejects_cannot_go(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    file = put(tmp_path, "a.csv", "email\na@example.com\n")
    taken = put(tmp_path, "taken.csv", "precious")
    for rejects, reason in (
        (file, "exists already"),
        (taken, "exists already"),
        (tmp_path / "missing" / "r.csv", "cannot be written"),
        (tmp_path / "r.jsonl", "must have the input's format"),
    ):
        code, answer, errors = await command(settings, "load", str(file), "--rejects", str(rejects))
        assert (code, answer) == (2, "")
        assert reason in errors
    assert taken.read_text(encoding="utf-8") == "precious"
    assert await _contacts(pool) == set()
    # One that stays empty does not stay.
    code, _, _ = await _run(settings, "load", file, "--rejects", str(tmp_path / "r.csv"))
    assert code == 0
    assert not (tmp_path / "r.csv").exists()


@both
async def test_rows_that_the_record_refuses_are_rejects(
    settings: Settings, pool: Pool, tmp_path: Path, verb: str
) -> None:
    await pool.execute("ALTER TABLE contacts ADD CHECK (email <> 'refused@example.com')")
    rejects = tmp_path / "faulty.csv"
    file = put(tmp_path, "a.csv", "Name,Email\nAda,a@example.com\nBob,Refused@Example.com\nCy,c@example.com\n")

    code, summary, _ = await _run(settings, verb, file, "--rejects", str(rejects))

    assert (code, summary["created"], summary["rejected"]) == (1, 2, 1)
    assert _faults(summary, "failed") == [(None, [3])]
    last = rejects.read_text(encoding="utf-8").splitlines()[-1]
    assert last.startswith("3,,")
    assert last.endswith(",Bob,Refused@Example.com")


@both
async def test_a_file_that_ends_in_another_encoding_keeps_its_rejects(
    settings: Settings, tmp_path: Path, verb: str
) -> None:
    rejects = tmp_path / "faulty.csv"
    file = put(tmp_path, "a.csv", b"email,phone\na@example.com,call me\nb@example.com,\n\xff,\n")

    code, summary, errors = await _run(settings, verb, file, "--rejects", str(rejects))

    assert (code, summary["created"], summary["rejected"]) == (2, 2, 1)
    assert "line 4 is not UTF-8: save the file as UTF-8. The rows before it are in." in errors
    assert rejects.read_text(encoding="utf-8").splitlines()[1].startswith("2,phone,")


@both
async def test_help_tells_the_options_with_an_example(settings: Settings, verb: str) -> None:
    code, answer, _ = await command(settings, verb, "--help")
    assert code == 0
    for said in ("--map KIND=COLUMN", "--ignore COLUMN", "--strict", "--dry-run", "--rejects FILE"):
        assert said in answer
    assert f"\n  nexus-graph {verb} people.csv " in answer
