"""Durations as commands take them: `30s`, `15m`, `24h`, `90d`."""

import re
from typing import Final

_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_written = re.compile(r"([0-9]{1,10})([smhd])", re.ASCII).fullmatch

LONGEST_SECONDS: Final = 3_650 * 86_400
"""Ten years: what is meant to last longer has no end."""


def seconds_in(text: str) -> int:
    """The duration in seconds. Raises ValueError with a sentence for the user."""
    found = _written(text)
    if found is None:
        raise ValueError("give a whole number and a unit, such as 30s, 15m, 24h or 90d")
    seconds = int(found[1]) * _UNIT_SECONDS[found[2]]
    if seconds > LONGEST_SECONDS:
        raise ValueError("give at most 3650d")
    return seconds
