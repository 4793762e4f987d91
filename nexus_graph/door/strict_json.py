"""JSON that two readers cannot understand differently."""

import json
from typing import Any, Final


class NotStrict(ValueError):
    """The bytes are no JSON object, or one that readers may understand differently. Holds nothing of the bytes."""


def parse_object(content: bytes) -> dict[str, Any]:
    """The members of a JSON object in UTF-8. Raises NotStrict, also for a name that an object holds twice, at any
    depth; for NaN and infinity; for numbers of thousands of digits; and for nesting that Python cannot follow.
    """
    try:
        found = _DECODER.decode(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise NotStrict("no strict JSON") from None
    if not isinstance(found, dict):
        raise NotStrict("no JSON object")
    return found


def _with_single_names(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a name occurs twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_with_single_names, parse_constant=_refuse)
