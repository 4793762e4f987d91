"""Durations of the command line."""

import pytest

from nexus_graph.commands.durations import seconds_in


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("30s", 30), ("15m", 900), ("24h", 86_400), ("90d", 7_776_000), ("3650d", 315_360_000)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert seconds_in(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "1.5h", "1 d", "1w", "1D", "1d ", "1d\n", "٣d", "3651d", "9" * 20 + "s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give"):
        seconds_in(text)
