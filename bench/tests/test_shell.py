"""Every part of what GraphQL costs is measured, and answers as it should."""

from bench.shell import measure


async def test_every_case_answers() -> None:
    found = await measure(rounds=1, requests=10)
    assert len(found) == 7
    assert all(microseconds > 0 for microseconds in found.values())
