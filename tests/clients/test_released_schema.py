"""What clients of the released schema rely on stays, unless a decision record says that it breaks."""

from pathlib import Path

import pytest

from nexus_graph.statements import GRAPHQL_SCHEMA
from tests.stage.commands import ran

RELEASED = GRAPHQL_SCHEMA.with_name("released.graphql")
BREAKING = [
    ("  databaseId: BigInt!\n", "  databaseId: ID!\n", "Contact.databaseId"),
    ("    atLeast: BigInt\n", "    atLeast: BigInt!\n", "Query.contactFamily.atLeast"),
    ("InvalidIdentifierError | TemporarilyUnavailableError", "InvalidIdentifierError", "IdentifyResult"),
]


async def compared(current: Path, judges: Path, records: Path) -> tuple[int, str]:
    command = ("graphql-inspector", "diff", RELEASED, current, "--rule", judges / "adr-allows.js")
    return await ran(*command, cwd=judges, env={"ADR_FOLDER": str(records)})


async def test_the_schema_keeps_what_was_released(judges: Path, project: Path) -> None:
    code, printed = await compared(GRAPHQL_SCHEMA, judges, project / "docs" / "adr")
    assert code == 0, printed


@pytest.mark.parametrize(("before", "after", "path"), BREAKING)
async def test_a_break_needs_a_decision_record(
    before: str, after: str, path: str, tmp_path: Path, judges: Path
) -> None:
    released = RELEASED.read_text(encoding="utf-8")
    assert released.count(before) == 1
    (tmp_path / "current.graphql").write_text(released.replace(before, after), encoding="utf-8")
    (tmp_path / "0001-another.md").write_text("Breaks: Query.contactFamily\n", encoding="utf-8")
    code, printed = await compared(tmp_path / "current.graphql", judges, tmp_path)
    assert (code, f"(Breaks: {path})" in printed) == (1, True), printed

    (tmp_path / "0002-decided.md").write_text(f"# Why\n\nBreaks: {path}\n", encoding="utf-8")
    code, printed = await compared(tmp_path / "current.graphql", judges, tmp_path)
    assert code == 0, printed


async def test_an_addition_needs_none(tmp_path: Path, judges: Path) -> None:
    released = RELEASED.read_text(encoding="utf-8")
    added = released.replace("type IdentifySuccess {\n", "type IdentifySuccess {\n  more: String\n\n")
    (tmp_path / "current.graphql").write_text(added, encoding="utf-8")
    code, printed = await compared(tmp_path / "current.graphql", judges, tmp_path)
    assert (code, "Field more was added" in printed) == (0, True), printed
