"""The scalars of the schema."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NewType

import strawberry
from graphql import (
    ConstValueNode,
    FloatValueNode,
    GraphQLError,
    IntValueNode,
    StringValueNode,
    ValueNode,
    value_from_ast_untyped,
)
from strawberry.types.scalar import ScalarDefinition

from nexus_graph.identifiers.normalize import Written

BigInt = NewType("BigInt", int)
EmailAddress = NewType("EmailAddress", object)
PhoneNumber = NewType("PhoneNumber", object)
Representation = NewType("Representation", object)

_SAFE_MAX: Final = 2**53 - 1
_MOMENT_MAX_CHARACTERS: Final = 60
"""RFC 3339 has no bound for fractions of a second; digits past a microsecond are cut off."""

_rfc_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}):([0-9]{2}(?:\.[0-9]+)?)([Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch


def _big_int(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(_SAFE_MAX)):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # from clients whose numbers all have a point; Int coerces them too
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _SAFE_MAX:
        raise GraphQLError(f"BigInt is a whole number from 0 to {_SAFE_MAX}")
    return value


def _big_int_literal(node: ValueNode, _variables: object = None) -> int:
    return _big_int(node.value if isinstance(node, IntValueNode | StringValueNode) else None)


def _date_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(value: object) -> datetime:
    """Raises GraphQLError unless the text is a moment of RFC 3339, with its offset."""
    found = _rfc_3339(value) if isinstance(value, str) and len(value) <= _MOMENT_MAX_CHARACTERS else None
    try:
        if found is None:
            raise ValueError
        minute, seconds, offset = found.groups()
        # A leap second is read as the first second of the next minute, as in PostgreSQL.
        leaps = seconds.startswith("60")
        moment = datetime.fromisoformat(f"{minute}:{'59' if leaps else seconds}{offset.upper()}")
        return (moment + timedelta(seconds=1) if leaps else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        raise GraphQLError("DateTime is a moment as RFC 3339 writes it, with its offset from UTC") from None


def _as_given(value: object) -> object:
    return value


def _literal_as_given(node: ConstValueNode, _variables: object = None) -> object:
    if isinstance(node, FloatValueNode):
        return Written(node.value)
    return value_from_ast_untyped(node)


# Identifiers pass unchanged: `normalize` judges them for GraphQL and REST alike, and names the field.
_AS_GIVEN: Final[dict[str, Any]] = {
    "serialize": _as_given,
    "parse_value": _as_given,
    "parse_literal": _literal_as_given,
}

SCALARS: Final[Mapping[object, ScalarDefinition]] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number past 32 bits, as a JSON number: always below 2^53, so JavaScript holds it exactly.",
        serialize=int,
        parse_value=_big_int,
        parse_literal=_big_int_literal,
    ),
    EmailAddress: strawberry.scalar(
        name="EmailAddress",
        description="An email address, as a string. Upper case does not matter; dots and plus tags do. What is pasted "
        "around it is no part of it: blanks, quotes, brackets, `mailto:`, a full stop or comma at its end. An "
        "internationalised domain is held in ASCII (UTS 46). null and a blank string mean that there is none.",
        specified_by_url="https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address",
        **_AS_GIVEN,
    ),
    PhoneNumber: strawberry.scalar(
        name="PhoneNumber",
        description="A phone number, as a string or a positive integer. One that begins with + is held as E.164, "
        "any other as its digits; separators, what is pasted around it and `tel:` do not matter. An extension is "
        "dropped, and `dropped` says so. Two numbers, a date or a decimal are refused. null and a blank string mean "
        "that there is none.",
        specified_by_url="https://www.itu.int/rec/T-REC-E.164",
        **_AS_GIVEN,
    ),
    Representation: strawberry.scalar(
        name="_Any",
        description="The key of an object: `__typename` and the fields of its key.",
        **_AS_GIVEN,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in UTC with microseconds, as RFC 3339 writes it.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_date_time,
        parse_value=_moment,
    ),
}
