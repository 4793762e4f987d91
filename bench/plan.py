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
    "rest_guarded",
    "known_guarded",
    "typename",
    "typename_sized",
    "pgbench",
    "echo",
    "express",
    "open",
    "express_plain",
    "family_alone",
    "driver",
    "hot",
)
"""Every arm; docs/benchmarks.md says what each is."""
SHORT_ARMS: Final = tuple(arm for arm in ARMS if arm not in {"express_plain", "family_alone", "driver", "hot"})
"""Those of a run of about five minutes."""
PARTS: Final = ("dense", "sustain", "start", "scale", "growth", "bulk")
"""What runs after the rounds, each by itself."""
MIXED_ARMS: Final = frozenset({"rest", "rest_guarded", "graphql", "pgbench", "open"})
"""Those that write the usual mix into the record."""
GUARDED_ARMS: Final = frozenset({"rest_guarded", "known_guarded"})
"""Those that are sent with an API key to a server behind the door."""
WRITING_ARMS: Final = MIXED_ARMS | {"hot"}
COMPARED_ARMS: Final = ("rest", "graphql", "family", "family_cached", "known", "typename", "hot")
"""Those that two revisions are compared by, unless others are asked for."""
COMPARABLE_ARMS: Final = (
    frozenset(ARMS) - GUARDED_ARMS - {"pgbench", "echo", "express", "express_plain", "driver", "open"}
)
"""Those that a revision answers by itself, as fast as it can."""


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
    revision: str | None = None
    """Another revision of the project: measure only how the present one compares with that one."""
    data_dir: Path | None = None
    """An empty or new folder, kept afterwards; None: a temporary one."""

    def __post_init__(self) -> None:
        if unknown := set(self.arms) - set(ARMS):
            raise BenchError(f"unknown arms: {', '.join(sorted(unknown))}; there are {', '.join(ARMS)}")
        if unknown := set(self.parts) - set(PARTS):
            raise BenchError(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        if self.revision is not None and (unfit := set(self.arms) - COMPARABLE_ARMS):
            raise BenchError(f"no revision is compared by {', '.join(sorted(unfit))}: see bench/README.md")
        if self.data_dir is not None and self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise BenchError(f"{self.data_dir} is not empty: the benchmark wants a data directory of its own")

    def arms_of_round(self, number: int) -> Sequence[str]:
        """Every arm once; each round begins one arm further on."""
        first = number % max(1, len(self.arms))
        return (*self.arms[first:], *self.arms[:first])


SHORT: Final = Plan()
"""`make bench`."""
COMPARISON: Final = Plan(rounds=12, seconds=2.0, warmup_seconds=0.3, arms=COMPARED_ARMS)
"""`make bench BENCH_OPTIONS="--beside REVISION"`."""
FULL: Final = Plan(seconds=6.0, warmup_seconds=0.7, arms=ARMS, parts=PARTS)
"""`make bench-full`."""
