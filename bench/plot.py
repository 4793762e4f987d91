"""python -m bench.plot FILE.json --out FILE.svg: a picture of what a run measured, from its JSON alone.

The same JSON gives the same bytes. It needs matplotlib, which is a development dependency.
"""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CANNOT: Final = 1
LIMITS: Final = frozenset(
    {
        *("echo", "typename", "typename_sized", "pgbench", "driver"),
        *("express", "express_plain", "family_alone"),
    }
)
"""What the others are held against: limits, the original design, our server with gathering off."""
OURS_COLOUR: Final = "#1f6f8b"
LIMIT_COLOUR: Final = "#a9a9a9"
INK: Final = "#222222"
WIDTH_INCHES: Final = 9.0
ROW_INCHES: Final = 0.32
HEAD_INCHES: Final = 1.1
TIME_INCHES: Final = 2.2
STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "nexus_graph",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "text.color": INK,
}


@dataclass(frozen=True)
class Bar:
    """One arm: medians of its rounds, and how far the rounds were apart."""

    arm: str
    rate: float
    rates: Sequence[float]
    p50_ms: float
    p99_ms: float
    p999_ms: float

    @property
    def colour(self) -> str:
        return LIMIT_COLOUR if self.arm in LIMITS else OURS_COLOUR


def bars(raw: Mapping[str, Any]) -> list[Bar]:
    """The arms of a run, the fastest first."""
    rounds: dict[str, list[Mapping[str, Any]]] = {}
    for measurement in raw["measurements"]:
        rounds.setdefault(measurement["arm"], []).append(measurement)
    found = [
        Bar(
            arm,
            statistics.median(each["rate"] for each in measured),
            [each["rate"] for each in measured],
            *(
                statistics.median(each["latency_ms"][name] for each in measured)
                for name in ("p50_ms", "p99_ms", "p999_ms")
            ),
        )
        for arm, measured in rounds.items()
    ]
    return sorted(found, key=lambda bar: -bar.rate)


def moments(raw: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """How the long load stood over time; nothing where the run had none."""
    return [moment for part in raw.get("parts", ()) for moment in part["moments"]]


def drawn(raw: Mapping[str, Any]) -> "Figure":
    """The picture. Raises ImportError where matplotlib is not installed."""
    from matplotlib.figure import Figure

    arms, over_time = bars(raw), moments(raw)
    arms_inches = HEAD_INCHES + ROW_INCHES * len(arms)
    heights = [arms_inches, TIME_INCHES] if over_time else [arms_inches]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
    figure.suptitle(_title(raw), x=0.01, ha="left", fontsize=10)
    panels = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    rates, latencies = panels[0].subplots(1, 2, sharey=True)
    _draw_rates(rates, arms)
    _draw_latencies(latencies, arms)
    if over_time:
        for axes, (name, label) in zip(panels[1].subplots(1, 3), _OVER_TIME.items(), strict=True):
            _draw_over_time(axes, over_time, name, label)
    return figure


_OVER_TIME: Final = {"rate": "req/s", "lag_p99_seconds": "graph lag p99, s", "api_memory_mb": "API memory, MB"}


def _title(raw: Mapping[str, Any]) -> str:
    machine, plan = raw["machine"], raw["plan"]
    return (
        f"{raw['at']}, commit {raw['commit']}: {machine['cores']} cores shared with the load, {plan['clients']} clients"
        f", {plan['people']:,} people"
    )


def _draw_rates(axes: "Axes", arms: Sequence[Bar]) -> None:
    places = range(len(arms))
    axes.barh(places, [bar.rate for bar in arms], color=[bar.colour for bar in arms], height=0.7)
    for place, bar in enumerate(arms):
        axes.plot([min(bar.rates), max(bar.rates)], [place, place], color=INK, linewidth=1)
        axes.annotate(f"{bar.rate:,.0f}", (max(bar.rates), place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [bar.arm for bar in arms])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("req/s: median, and from lowest to highest (grey: what the others are held against)")


def _draw_latencies(axes: "Axes", arms: Sequence[Bar]) -> None:
    for place, bar in enumerate(arms):
        axes.plot([bar.p50_ms, bar.p999_ms], [place, place], color=bar.colour, linewidth=1.5)
        axes.plot([bar.p50_ms], [place], "o", color=bar.colour, markersize=6)
        axes.plot([bar.p99_ms, bar.p999_ms], [place, place], "|", color=bar.colour, markersize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("latency, ms: p50 (dot), p99, p99.9 (ticks)")
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.6)


def _draw_over_time(axes: "Axes", over_time: Sequence[Mapping[str, Any]], name: str, label: str) -> None:
    seen = [(moment["at_seconds"], moment[name]) for moment in over_time if moment[name] is not None]
    axes.plot([at for at, _ in seen], [value for _, value in seen], color=OURS_COLOUR, linewidth=1.5)
    axes.set_ylim(0, 1.1 * max((value for _, value in seen), default=1) or 1)
    axes.set_xlabel("seconds of REST load without a pause")
    axes.set_title(label, loc="left", fontsize=9)


def plot(
    file: Annotated[Path, typer.Argument(help="What `--json` of the benchmark wrote.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="The picture, .svg or .png.")],
) -> None:
    """Draw a run of the benchmark."""
    try:
        import matplotlib as mpl
    except ImportError:
        sys.stderr.write("matplotlib is not installed: it comes with the development dependencies (make setup)\n")
        raise typer.Exit(CANNOT) from None
    raw = json.loads(file.read_text(encoding="utf-8"))
    with mpl.rc_context(STYLE):
        drawn(raw).savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


if __name__ == "__main__":
    typer.run(plot)
