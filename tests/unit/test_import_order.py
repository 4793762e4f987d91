"""Imports flow one way: down the order of packages that ARCHITECTURE.md states."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "nexus_graph"
ORDER: Final = re.compile(r"```order\n(.*?)```", re.DOTALL)


def _floors() -> dict[str, int]:
    """The floor of each package and top module; the lowest has the largest number."""
    (block,) = ORDER.findall((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    floors = block.strip().splitlines()
    return {name: floor for floor, names in enumerate(floors) for name in names.split()}


def _rooms() -> Iterator[tuple[str, Path]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        inside = file.relative_to(PACKAGE)
        if inside.name == "__init__.py" and len(inside.parts) == 1:
            continue  # the version, which every package may read
        yield inside.parts[0].removesuffix(".py"), file


def _imported(file: Path) -> Iterator[tuple[int, str]]:
    """The line and the room of each import of the product, also of those inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "nexus_graph":
            yield from ((node.lineno, alias.name) for alias in node.names if not alias.name.startswith("__"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nexus_graph."):
            assert node.module is not None
            yield node.lineno, node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("nexus_graph.")]
            yield from ((node.lineno, name.split(".")[1]) for name in names)


def wrong_imports(floors: dict[str, int]) -> list[str]:
    """The imports that lead up, or to a neighbour; on the ground floor neighbours may import each other."""
    ground = max(floors.values())
    return [
        f"{file.relative_to(ROOT)}:{line} imports {imported}"
        for room, file in _rooms()
        for line, imported in _imported(file)
        if imported != room and floors[imported] <= floors[room] != ground
    ]


def test_every_room_stands_in_the_order() -> None:
    assert {room for room, _ in _rooms()} == _floors().keys()


def test_imports_flow_one_way() -> None:
    assert wrong_imports(_floors()) == []


def test_an_import_that_leads_up_is_found() -> None:
    floors = _floors()
    upside_down = {name: -floor for name, floor in floors.items()}
    assert any("nexus_graph/identity/identify.py" in wrong for wrong in wrong_imports(upside_down))


def test_the_ground_knows_no_terminal() -> None:
    """Stores, cache and core print nothing: output belongs to the commands."""
    silent = ("store", "graph", "cache", "identifiers", "identity", "bulk")
    speaks = re.compile(r"sys\.std(out|err)|\bprint\(|^(from|import) rich", re.MULTILINE)
    told = [
        str(file.relative_to(ROOT)) for room, file in _rooms() if room in silent and speaks.search(file.read_text())
    ]
    assert told == []


def test_the_product_imports_no_benchmark_and_no_test() -> None:
    outside = re.compile(r"^\s*(from|import) (bench|tests)\b", re.MULTILINE)
    assert [str(file) for file in PACKAGE.rglob("*.py") if outside.search(file.read_text(encoding="utf-8"))] == []
