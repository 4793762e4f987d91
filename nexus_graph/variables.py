"""Settings from the variables of the environment: the known names, and messages about unusable values.

A message names the variable as the environment spells it, its value unless that is a secret, and what is allowed.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, get_args

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from nexus_graph.addresses import address
from nexus_graph.config import SCHEMES, Settings

PREFIX: Final = "NEXUS_"

OTHERS: Final = frozenset(
    {
        "NEXUS_CACHE_DIR",  # where the embedded servers are kept
        "NEXUS_MAVEN_URL",  # where they are downloaded from
        "NEXUS_GRAPH_URL",  # the examples' API
        "NEXUS_SCREENSHOT",  # the tests' picture of a page
        "NEXUS_TEST_SEED",  # the tests' random choices
    }
)
"""Names with the prefix of settings that other code reads."""

MISTAKEN: Final = {
    "NEO4J_URL": "NEO4J_URI",
    "NEO4J_USERNAME": "NEO4J_USER",
    "NEO4J_PASS": "NEO4J_PASSWORD",
    "DATABASE_URI": "DATABASE_URL",
    "REDIS_URI": "REDIS_URL",
}
"""Names that other programs have for our settings."""

_LIKENESS: Final = 0.75
"""Similarity of two names, up to 1, from which one counts as a misspelling of the other."""

_SHOWN_MAX: Final = 80
"""Characters of a wrong value that a message shows."""

_ALLOWED: Final = {
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number, and a smaller one",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
}


class UnusableSettings(ValueError):
    """Some variables have values that cannot be used; `faults` has a line for each."""

    def __init__(self, faults: list[str]) -> None:
        """`faults` are sentences without secrets."""
        super().__init__("; ".join(faults))
        self.faults = faults


class Unknown(NamedTuple):
    """A variable that nothing reads."""

    name: str
    advice: str


def read_settings(environment: Mapping[str, str], **given: Any) -> Settings:
    """The settings of this process; `given` values replace those of the environment. Raises UnusableSettings, whose
    messages take the spelling of names from `environment`.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = [_fault(detail, environment) for detail in error.errors(include_url=False)]
        raise UnusableSettings(faults) from None


def unknown(environment: Mapping[str, str]) -> list[Unknown]:
    """The variables that look like settings and that nothing reads, each with advice."""
    known = [name for field in Settings.model_fields for name in names_of(field)]
    suffixes = [name.removeprefix(PREFIX) for name in (*known, *OTHERS) if name.startswith(PREFIX)]
    found = []
    for name in sorted(environment):
        upper = name.upper()
        if upper in MISTAKEN:
            found.append(Unknown(name, f"the setting is {MISTAKEN[upper]}"))
        elif upper.startswith(PREFIX) and upper not in known and upper not in OTHERS:
            near = get_close_matches(upper.removeprefix(PREFIX), suffixes, n=1, cutoff=_LIKENESS)
            found.append(Unknown(name, f"did you mean {PREFIX}{near[0]}?" if near else "unset it"))
    return found


def names_of(field: str) -> list[str]:
    """The variables of a setting, our name for it first."""
    alias = Settings.model_fields[field].validation_alias
    aliases = [str(choice) for choice in getattr(alias, "choices", [])]
    return [*aliases, PREFIX + field.upper()]


def set_names(environment: Mapping[str, str]) -> list[str]:
    """The variables that set a setting in this environment, as the environment spells them."""
    given = {name.upper(): name for name, value in environment.items() if value}
    return [given[name] for field in Settings.model_fields for name in names_of(field) if name in given]


def _fault(detail: ErrorDetails, environment: Mapping[str, str]) -> str:
    place = str(detail["loc"][0]) if detail["loc"] else ""
    for field in Settings.model_fields:
        names = names_of(field)
        if place == field or place in names:
            given = set_names(environment)
            name = next((name for name in given if name.upper() in names), names[0])
            return f"{name}{_shown(field, detail['input'])} {_words(detail)}"
    return _words(detail)


def _words(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _ALLOWED:
        return _ALLOWED[kind]
    if kind == "literal_error":
        return f"must be {str(context['expected']).replace(chr(39), '')}"
    for bound, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if bound in context:
            return f"must be {words} {context[bound]:g}"
    # Our own messages are predicates already; the library's begin with a subject.
    return detail["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)


def _shown(field: str, value: Any) -> str:
    if field in SCHEMES:
        url = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        return f" ({address(url)})"
    annotation = Settings.model_fields[field].annotation
    if SecretStr in (annotation, *get_args(annotation)) or not isinstance(value, str | int | float):
        return ""
    if field == "jwt_jwks" and "@" in str(value):  # a login may stand in it
        return ""
    text = "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(value))
    return f"={text[:_SHOWN_MAX]}{'…' if len(text) > _SHOWN_MAX else ''}"
