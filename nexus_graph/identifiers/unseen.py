"""Characters that cannot be seen: two identifiers may not differ by them alone."""

import unicodedata
from typing import Final

_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})
_LETTERS: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)


def is_unseen(character: str) -> bool:
    """True if it leaves no mark of its own: a blank, a control character, or one that only changes its neighbours."""
    return unicodedata.category(character) in _CATEGORIES or character in _LETTERS
