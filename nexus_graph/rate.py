"""Rates: how much in how long, as `100/minute` in settings."""

import re
from typing import Final, NamedTuple

AMOUNT_MAX: Final = 1_000_000_000
"""The largest amount of a rate: Redis and its Lua count such numbers exactly."""

SECONDS_MAX: Final = 30 * 24 * 3600
"""The longest time of a rate."""

OFF: Final = "off"
"""Stands for "no limit"."""

_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_parts = re.compile(
    r"\s*([0-9]{1,10})\s*/\s*([0-9]{0,7})\s*(second|minute|hour|day|s(?!econd)|m(?!inute)|h|d)s?\s*",
    re.IGNORECASE,
).fullmatch


class Rate(NamedTuple):
    """So much in so many seconds."""

    amount: int
    seconds: int

    @property
    def per_second(self) -> float:
        """For comparison: the higher rate lets in more in the long run."""
        return self.amount / self.seconds


def parse_rate(text: str) -> Rate | None:
    """The rate that `100/minute`, `5/s` or `1000/30 minutes` means; None for `off`. Raises ValueError."""
    if text.strip().lower() == OFF:
        return None
    parts = _parts(text)
    if parts is None:
        raise ValueError("must be an amount and a time, such as 100/minute, 10/second or 5000/30m; or off")
    rate = Rate(int(parts[1]), int(parts[2] or 1) * _SECONDS[parts[3].lower()])
    if not (1 <= rate.amount <= AMOUNT_MAX and 1 <= rate.seconds <= SECONDS_MAX):
        raise ValueError(f"must be an amount from 1 to {AMOUNT_MAX} in a time of 1 second to 30 days; or off")
    return rate
