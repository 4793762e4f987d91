"""Write docs/settings.md, the table of all settings, from nexus_graph/config.py: `make settings`.

The table's groups are the comments between the settings, the meanings are their docstrings.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from nexus_graph.config import Settings
from nexus_graph.variables import names_of

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "settings.md"
UNITS: Final = (
    "seconds", "bytes", "contacts", "requests", "reads", "connections", "events", "families", "rows", "tokens",
    "entries",
)  # fmt: skip
"""Last parts of names, with or without `_max` behind them, that say what a number counts."""

HEAD: Final = """# Settings

Each process reads these variables of its environment once, at its start. An empty variable counts as not set.
`nexus-graph doctor` checks every value and names variables that no setting reads. All other bounds are constants next
to the code that they bound. This page is made by `make settings`.
"""


def page() -> str:
    """The whole page."""
    source = (ROOT / "nexus_graph" / "config.py").read_text(encoding="utf-8")
    text = HEAD
    for group, rows in _groups(source):
        text += f"\n## {group}\n\n| variable | default | unit | meaning |\n|---|---|---|---|\n"
        text += "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return text


def meanings(source: str) -> dict[str, tuple[int, str]]:
    """The line and the docstring of each setting, "" where there is none."""
    (settings,) = (
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    found = {}
    for node, after in zip(settings.body, settings.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            is_docstring = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            text = str(after.value.value) if is_docstring else ""  # type: ignore[attr-defined]
            found[node.target.id] = (node.lineno, " ".join(text.split()))
    return found


def _groups(source: str) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    known = meanings(source)
    lines = source.splitlines()
    group: str | None = None
    rows: list[tuple[str, ...]] = []
    for field, (line, meaning) in known.items():
        named = re.match(r" {4}# (.+)", lines[line - 2])
        if named is not None:
            if group is not None:
                yield group, rows
            group, rows = named[1], []
        information = Settings.model_fields[field]
        cells = (f"`{names_of(field)[0]}`", _default(information), _unit(field, information), meaning)
        rows.append(tuple(cell.replace("|", "\\|") for cell in cells))
    if group is not None:
        yield group, rows


def _default(information: FieldInfo) -> str:
    value = information.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value == ():
        return "none"
    if isinstance(value, dict):
        return f"`{json.dumps(value)}`"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _unit(field: str, information: FieldInfo) -> str:
    if not isinstance(information.default, int | float) or isinstance(information.default, bool):
        return ""
    last = field.removesuffix("_max").rpartition("_")[2]
    return last if last in UNITS else "number"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is written\n")
