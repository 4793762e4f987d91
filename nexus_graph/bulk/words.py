"""The words of exports of contacts (`words.toml`): what a column with a name holds, and which cells hold no value."""

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["email", "phone"]
Header = Literal["email", "phone", "neither", "unclear", "unknown"]
"""What a column's name says. `neither`: about emails or phones, but none of this contact's own.
`unclear`: looks like an email or a phone. `unknown`: about neither of the two."""


def letters(name: str) -> str:
    """The letters by which names are compared."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(character for character in decomposed if unicodedata.category(character)[0] == "L")


def _any(stems: Iterable[str]) -> "re.Pattern[str]":
    return re.compile("|".join(map(letters, stems)))


_TABLES: Final[dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_names: Final = _TABLES["names"]
_EMAIL, _PHONE, _NEITHER = (frozenset(map(letters, _names[holds])) for holds in ("email", "phone", "neither"))
_BESIDE: Final = {letters(name): letters(other) for name, other in _names["phone_beside"].items()}
_FAXES, _EMAIL_STEMS, _PHONE_STEMS = (_any(_TABLES["stems"][about]) for about in ("fax", "email", "phone"))
_EMAIL_WORDS, _PHONE_WORDS, _ABOUT = (frozenset(_TABLES["words"][about]) for about in ("email", "phone", "about"))
NO_VALUE: Final = frozenset(_TABLES["cells"]["no_value"])
"""Texts of cells that say that there is no value, in lower case."""

_NO_PHONE: Final = "phonetic"
_WORDS: Final = re.compile(r"[^\W\d_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def header(name: str, others: frozenset[str]) -> tuple[Header, Kind | None]:
    """What a column's name says, and the kind that the name mentions; `others` are the letters of all names."""
    key = letters(name)
    if key in _EMAIL:
        return "email", "email"
    if key in _PHONE or (key in _BESIDE and _BESIDE[key] in others):
        return "phone", "phone"
    if key in _NEITHER or _FAXES.search(key):
        return "neither", None
    words = set(_WORDS.findall(_without_accents(_CAMEL.sub(" ", name))))
    kind: Kind | None = None
    if _EMAIL_STEMS.search(key) or words & _EMAIL_WORDS:
        kind = "email"
    elif _PHONE_STEMS.search(key.replace(_NO_PHONE, "")) or words & _PHONE_WORDS:
        kind = "phone"
    if kind is None or words & _ABOUT:
        return "unknown", None
    return "unclear", kind


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
