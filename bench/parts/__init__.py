"""What runs after the rounds, each part by itself."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from bench.parts.bulk import bulk, growth
from bench.parts.dense import dense
from bench.parts.serving import scale, start
from bench.parts.sustain import sustain
from bench.result import Part
from bench.stack import Running

PARTS: Final[Mapping[str, Callable[[Running], Awaitable[Part]]]] = {
    "dense": dense,
    "sustain": sustain,
    "start": start,
    "scale": scale,
    "growth": growth,
    "bulk": bulk,
}
"""By name, in the order in which a full run has them."""
