"""What a run of the benchmark does: which arms, how long, after how many people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ARMS: Final = (
    "rest",
    "graphql",
    "family",
    "family_cached",
    "known",
    "typename",
    "typename_sized",
    "pgbench",
    "echo",
    "express",
    "open",
    "express_plain",
    "family_alone",
    "driver",
)
"""Every arm; docs/benchmarks.md says what each is."""
SHORT_ARMS: Final = tuple(arm for arm in ARMS if arm not in {"express_plain", "family_alone", "driver"})
"""Those of a run of about five minutes."""
PARTS: Final = ("dense", "sustain", "start", "scale", "growth", "bulk")
"""What runs after the rounds, each by itself."""
WRITING_ARMS: Final = frozenset({"rest", "graphql", "pgbench", "open"})
"""Those that write into the record."""


class BenchError(Exception):
    """The benchmark cannot be run, or what it ran is no measurement; the message says why."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    rounds: int = 5
    seconds: float = 3.0
    warmup_seconds: float = 0.5
    clients: int = 32
    people: int = 50_000
    open_rate: float = 1_000.0
    """Requests a second that the arm `open` offers."""
    seed: int = 20_260_901
    arms: Sequence[str] = field(default=SHORT_ARMS)
    """Empty: no rounds, only the parts."""
    parts: Sequence[str] = ()
    sustain_seconds: float = 300.0
    growth_people: int = 5_000_000
    bulk_contacts: int = 1_000_000
    data_dir: Path | None = None
    """An empty or new folder, kept afterwards; None: a temporary one."""

    def __post_init__(self) -> None:
        if unknown := set(self.arms) - set(ARMS):
            raise BenchError(f"unknown arms: {', '.join(sorted(unknown))}; there are {', '.join(ARMS)}")
        if unknown := set(self.parts) - set(PARTS):
            raise BenchError(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        if self.data_dir is not None and self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise BenchError(f"{self.data_dir} is not empty: the benchmark wants a data directory of its own")

    def arms_of_round(self, number: int) -> Sequence[str]:
        """Every arm once; each round begins one arm further on."""
        first = number % max(1, len(self.arms))
        return (*self.arms[first:], *self.arms[:first])


SHORT: Final = Plan()
"""`make bench`."""
FULL: Final = Plan(seconds=6.0, warmup_seconds=0.7, arms=ARMS, parts=PARTS)
"""`make bench-full`."""
