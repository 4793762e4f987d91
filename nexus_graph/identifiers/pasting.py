"""Marks pasted around an identifier: blanks, invisible characters, quotes, brackets, the end of a sentence.

One rule for emails and phones: such marks at the ends are no part of the identifier. Marks inside it stay.
"""

import unicodedata
from typing import Final

BLANKS: Final = " \t\r\n\v\f\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def _range(first: int, last: int) -> str:
    return "".join(map(chr, range(first, last + 1)))


# Zero width, direction, byte order, soft hyphen, variation selectors: copied texts contain such marks.
INVISIBLE_MARKS: Final = (
    "\u00ad\u034f\u061c\u180e\ufeff"
    + _range(0x200B, 0x200F)
    + _range(0x202A, 0x202E)
    + _range(0x2060, 0x2064)
    + _range(0x2066, 0x206F)
    + _range(0xFE00, 0xFE0F)
    + _range(0xE0020, 0xE007F)
    + _range(0xE0100, 0xE01EF)
)
_AROUND: Final = BLANKS + INVISIBLE_MARKS
QUOTES: Final = (
    "\"'`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u00ab\u00bb"
    "\u275b\u275c\u275d\u275e\u2032\u2033"
)
_OPENING: Final = QUOTES + "<([{\u300c\u300e\u3008\u300a\u3010\u3014\u27e8"
_CLOSING: Final = QUOTES + ">)]}\u300d\u300f\u3009\u300b\u3011\u3015\u27e9"
_ENDING: Final = ".,;:!?\u2026\u3001\u3002\uff61\uff64"
_BEFORE: Final = _AROUND + _OPENING
_AFTER: Final = _AROUND + _CLOSING + _ENDING

# ASCII in East Asian width: input methods write it in place of ASCII (RFC 8265 maps it too).
_narrow: Final = {0xFF01 + place: 0x21 + place for place in range(94)} | {0x3000: 0x20}

_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})
_INVISIBLE_LETTERS: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + _range(0xFE00, 0xFE0F)
    + _range(0xE0100, 0xE01EF)
)


def is_invisible(character: str) -> bool:
    """True for a blank, a control character, and one that only changes its neighbours: no two identifiers may differ by
    these alone.
    """
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES or character in _INVISIBLE_LETTERS


def narrowed(text: str) -> str:
    """The text with full-width forms of ASCII as ASCII."""
    return text if text.isascii() else text.translate(_narrow)


def is_blank(text: str) -> bool:
    """True if the text is empty, or only blanks and invisible marks."""
    return not text.strip(_AROUND)


def unwrapped(text: str) -> str:
    """The text without the marks pasted around it. Idempotent."""
    while True:
        bare = text.strip(_AROUND)
        if bare[:1] == "=" and bare[1:2] and bare[1] in QUOTES:
            bare = bare[1:]  # a spreadsheet's form of a number that is text: ="0171"
        bare = bare.lstrip(_BEFORE).rstrip(_AFTER)
        if bare == text:
            return text
        text = bare
