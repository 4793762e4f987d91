"""Imports flow one way: down the order of packages that ARCHITECTURE.md states."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "nexus_graph"
ORDER: Final = re.compile(r"```order\n(.*?)```", re.DOTALL)
ORDER_WITHIN: Final = re.compile(r"```order of (\S+)\n(.*?)```", re.DOTALL)


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


def _orders_within() -> dict[str, list[str]]:
    """The rooms of packages that have an order of their own, the highest first."""
    found = ORDER_WITHIN.findall((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    return {package: rooms.split() for package, rooms in found}


def _imported_names(file: Path) -> Iterator[tuple[int, str, str]]:
    """The line, the module and the name of each import of the product."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nexus_graph"):
            yield from ((node.lineno, node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names if alias.name.startswith("nexus_graph."))


def _door(package: str, room: str) -> set[str]:
    """The names that the room's `__init__` lists."""
    tree = ast.parse((PACKAGE / package / room / "__init__.py").read_text(encoding="utf-8"))
    (names,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return set(names)


def wrong_imports_within(package: str, rooms: list[str]) -> list[str]:
    """The imports that lead up between the rooms of a package, or into one of them past its door."""
    doors = {room: _door(package, room) for room in rooms}
    inside = f"nexus_graph.{package.replace('/', '.')}"
    wrong: list[str] = []
    for _, file in _rooms():
        path = file.relative_to(PACKAGE).as_posix().removeprefix(f"{package}/")
        room = path.partition("/")[0]
        for line, module, name in _imported_names(file):
            target = module if module != inside else f"{inside}.{name}"
            other, _, below = target.removeprefix(f"{inside}.").partition(".")
            if not target.startswith(f"{inside}.") or other == room:
                continue
            leads_up = room in rooms and rooms.index(other) < rooms.index(room)
            if leads_up or below or module == inside or name not in doors[other]:
                wrong.append(f"{file.relative_to(ROOT)}:{line} imports {name} from {target}")
    return wrong


def test_every_room_stands_in_the_order() -> None:
    assert {room for room, _ in _rooms()} == _floors().keys()


def test_imports_flow_one_way() -> None:
    assert wrong_imports(_floors()) == []


def test_an_import_that_leads_up_is_found() -> None:
    floors = _floors()
    upside_down = {name: -floor for name, floor in floors.items()}
    assert any("nexus_graph/identity/identify.py" in wrong for wrong in wrong_imports(upside_down))


def test_every_room_within_a_package_stands_in_its_order() -> None:
    for package, rooms in _orders_within().items():
        assert {file.parent.name for file in (PACKAGE / package).glob("*/__init__.py")} == set(rooms)
        assert [file.name for file in (PACKAGE / package).glob("*.py")] == ["__init__.py"]


def test_imports_within_a_package_flow_one_way_through_doors() -> None:
    wrong = {package: wrong_imports_within(package, rooms) for package, rooms in _orders_within().items()}
    assert wrong == {"api/graphql": []}


def test_an_import_that_leads_up_within_a_package_is_found() -> None:
    rooms = _orders_within()["api/graphql"]
    wrong = wrong_imports_within("api/graphql", rooms[::-1])
    assert any("engine/answering.py" in found and "Context" in found for found in wrong)


def test_an_import_past_a_door_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "_door", lambda *_: {"Answering"})
    wrong = wrong_imports_within("api/graphql", _orders_within()["api/graphql"])
    assert any("nexus_graph/app.py" in found and "GraphQLRoute" in found for found in wrong)


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
