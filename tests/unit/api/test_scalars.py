"""What BigInt and DateTime take of what clients write, and what they refuse."""

from datetime import UTC, datetime

import pytest
from graphql import GraphQLError, GraphQLScalarType

from nexus_graph.api.graphql.schema import schema

SCHEMA = schema()


def scalar(name: str) -> GraphQLScalarType:
    found = SCHEMA.type_map[name]
    assert isinstance(found, GraphQLScalarType)
    return found


@pytest.mark.parametrize(
    ("given", "number"),
    [(0, 0), (167, 167), (167.0, 167), (-0.0, 0), ("167", 167), (2**53 - 1, 2**53 - 1), (2.0**53 - 1, 2**53 - 1)],
)
def test_whole_numbers_are_taken_however_they_are_written(given: object, number: int) -> None:
    taken = scalar("BigInt").parse_value(given)
    assert taken == number
    assert type(taken) is int


@pytest.mark.parametrize(
    "given",
    [
        167.5,
        2**53,
        2.0**53,
        1e300,
        float("inf"),
        float("nan"),
        -1,
        -1.0,
        True,
        None,
        "",
        "167.0",
        "1e2",
        "\u0661",
        [],
        {},
    ],
    ids=str,
)
def test_other_numbers_are_refused(given: object) -> None:
    with pytest.raises(GraphQLError, match="BigInt is a whole number"):
        scalar("BigInt").parse_value(given)


EVENING = datetime(2026, 11, 26, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-11-26T18:00:00Z", EVENING),
        ("2026-11-26t18:00:00z", EVENING),
        ("2026-11-26 18:00:00Z", EVENING),
        ("2026-11-26T19:30:00+01:30", EVENING),
        ("2026-11-26T18:00:00-00:00", EVENING),
        ("2026-11-26T18:00:00.5Z", EVENING.replace(microsecond=500_000)),
        ("2026-11-26T18:00:00.123456789Z", EVENING.replace(microsecond=123_456)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
    ],
)
def test_moments_of_rfc_3339_are_taken(given: str, moment: datetime) -> None:
    assert scalar("DateTime").parse_value(given) == moment


@pytest.mark.parametrize(
    "given",
    [
        "2026-W48-4T10:00:00Z",
        "2026-330T10:00:00Z",
        "20261126T180000Z",
        "2026-11-26T18:00Z",
        "2026-11-26T18Z",
        "2026-11-26",
        "2026-11-26T18:00:00",
        "2026-11-26T18:00:00+0100",
        "2026-11-26T18:00:00+25:00",
        "2026-11-26T24:00:00Z",
        "2026-02-30T18:00:00Z",
        "2026-11-26T18:00:61Z",
        "2026-11-26T18:00:00,5Z",
        "2026-11-26x18:00:00Z",
        "٢٠٢٦-11-26T18:00:00Z",
        "9999-12-31T23:59:60Z",
        "0001-01-01T00:00:00+10:00",
        "2026-11-26T18:00:00." + "0" * 100 + "Z",
        "",
        1,
        None,
    ],
    ids=lambda value: str(value)[:32],
)
def test_other_moments_are_refused(given: object) -> None:
    with pytest.raises(GraphQLError, match="RFC 3339"):
        scalar("DateTime").parse_value(given)
