"""What the caller of `load` and `import` says of a file."""

from dataclasses import dataclass, field
from pathlib import Path

from nexus_graph.bulk.columns import Choice


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is to be read, and what becomes of its faults."""

    choice: Choice = field(default_factory=Choice)
    strict: bool = False
    """Refuse a row for any cell that holds no value of its kind."""
    dry: bool = False
    """Read and say what would be sent; send nothing."""
    rejects: Path | None = None
