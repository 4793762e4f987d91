"""python -m bench.runs: write docs/benchmarks.md from the results of all runs, one JSON file each in bench/results/.

The same files give the same page.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from bench.gauges import CHECKOUT

RESULTS: Final = CHECKOUT / "bench" / "results"
PAGE: Final = CHECKOUT / "docs" / "benchmarks.md"
ARMS_MIN: Final = 6
"""A run of fewer arms is somebody's question about these arms, and no picture of a machine."""
COMPARISONS_MAX: Final = 5
HEAD: Final = """\
# Benchmarks

Written by `python -m bench.runs` from [bench/results](../bench/results), a file for each run: edit nothing here. What
the arms are and how they are measured: [bench/README.md](../bench/README.md). What the figures mean, and how to size
the service: [performance.md](performance.md). Rates are comparable within a run, ratios between runs of one machine.
"""

Raw = Mapping[str, Any]


def save(raw: Raw, folder: Path) -> Path:
    """Keep a result in a file that is named for its time; a second one of the same minute gets a number."""
    folder.mkdir(exist_ok=True)
    day, minute, *_ = raw["at"].split()
    compared = f"-beside-{raw['revision_commit']}" if raw["kind"] == "comparison" else ""
    name = f"{day}-{minute.replace(':', '')}{compared}"
    numbered = (folder / f"{name}{f'-{number}' if number else ''}.json" for number in count())
    file = next(file for file in numbered if not file.exists())
    file.write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def results(folder: Path) -> list[Raw]:
    """All results in a folder, the oldest first."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    return sorted(found, key=lambda raw: str(raw["at"]))


def page(found: Sequence[Raw]) -> str:
    """The page that shows these results, the oldest first."""
    runs = [raw for raw in found if raw["kind"] == "run" and len(raw["arms"]) >= ARMS_MIN]
    comparisons = [raw for raw in found if raw["kind"] == "comparison"]
    machines = list(dict.fromkeys(_machine(raw) for raw in reversed(runs)))
    newest = {machine: next(raw for raw in reversed(runs) if _machine(raw) == machine) for machine in machines}
    lines = [HEAD]
    for number, machine in enumerate(machines, 1):
        lines += [f"## Machine {number}: {machine}", "", *_newest(newest[machine])]
    lines += ["## Ratios over time", "", *_ratios(runs, machines)]
    lines += ["## Comparisons of revisions", "", *_comparisons(comparisons[-COMPARISONS_MAX:])]
    return "\n".join(lines).rstrip() + "\n"


def _machine(raw: Raw) -> str:
    machine = raw["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB, {machine['system']}"


def _newest(raw: Raw) -> list[str]:
    rows = [
        [
            arm,
            *(f"{figures[name]:,.0f}" for name in ("rate", "lowest", "highest")),
            *("" if figures[name] is None else f"{figures[name]:.2f}" for name in ("p50_ms", "p99_ms", "p999_ms")),
        ]
        for arm, figures in raw["arms"].items()
    ]
    said = "; ".join(raw["failures"]) or "all floors held"
    return [
        f"The newest run, {raw['at']}, commit {raw['commit']}: `{raw['command']}`. Medians of the rounds; {said}.",
        "",
        *_table(["arm", "req/s", "lowest", "highest", "p50 ms", "p99 ms", "p99.9 ms"], rows),
        "",
    ]


def _ratios(runs: Sequence[Raw], machines: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(name for raw in reversed(runs) for name, ratio in raw["ratios"].items() if ratio))
    rows = []
    for raw in reversed(runs):
        ratios = [raw["ratios"].get(name) for name in names]
        cells = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        rows.append([raw["at"].removesuffix(" UTC"), raw["commit"], str(machines.index(_machine(raw)) + 1), *cells])
    return [*_table(["run, UTC", "commit", "machine", *names], rows), ""]


def _comparisons(comparisons: Sequence[Raw]) -> list[str]:
    if not comparisons:
        return ["None so far.", ""]
    lines = ["Rates of the commit divided by those of the revision, median and spread (90 %).", ""]
    for raw in reversed(comparisons):
        lines += [f"- {raw['at']}, {raw['commit']} and {raw['revision_commit']}: {raw['verdict']}."]
        for arm, figures in raw["arms"].items():
            rate, cpu = figures["rate"], figures["api_cpu"]
            ratio = "{median:.3f} ({low:.3f}-{high:.3f})".format(**rate)
            lines += [f"  - {arm}: {ratio}; by the CPU time of the API {cpu['median']:.3f}"]
    return [*lines, ""]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(results(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
