"""Countries that gave all subscribers longer or shorter numbers: the old and the new number belong to one person.

A rule belongs here if the old number alone determines the new number, and no current number looks like an old one: so
no two people unite. libphonenumber has no such rules: it refuses old numbers, or reads them as different numbers.

Not here: Argentina's 9. +54 9 11 … is a mobile and +54 11 … may be another person's fixed line; libphonenumber's FAQ
("Why is this number from Argentina …") says that nothing distinguishes the two, and not to add a 9.
"""

import re
from collections import defaultdict
from typing import Final

# Calling code, the old number behind it, the number it became.
_TABLE: Final = (
    # Mexico, August 2019: abolished 1 from abroad, and 01, 02, 044 and 045 within the country.
    # github.com/google/libphonenumber/blob/master/FAQ.md#mx_legacy_formats; /pull/2693
    ("52", r"(?:1|01|02|044|045)([2-9]\d{9})", r"\1"),
    # Benin, 30 November 2024: 01 before all numbers of 8 digits. github.com/mobi/telephone_number/issues/138
    ("229", r"([24-9]\d{7})", r"01\1"),
    # Ivory Coast, 31 January 2021: two digits by operator before the 8: 07, 05, 01 for mobiles, 27, 25, 21 for others.
    # Mobiles: the operators of libphonenumber's resources/carrier/en/225.txt before then. Fixed lines: its pattern of
    # today's numbers, and github.com/aurellemeless/cipnn: a third digit 0 was MTN's, 8 Moov's.
    ("225", r"((?:0[789]|[457][789]|6[78]|8[789]|9[78])\d{6})", r"07\1"),
    ("225", r"((?:0[456]|[4-9][456])\d{6})", r"05\1"),
    ("225", r"((?:0[123]|[457][0-3])\d{6})", r"01\1"),
    ("225", r"((?:20[23]|21[2357]|22[245]|23[45]|24[345]|306|31[69]|3[2-6]7)\d{5})", r"27\1"),
    ("225", r"((?:2[0-4]|3[0-6])0\d{5})", r"25\1"),
    ("225", r"(2[0-3]8\d{5})", r"21\1"),
    # Brazil, 2012 to 2016: 9 before all mobiles of 8 digits. Numbers with 7 are not here: some kept 8 digits.
    # github.com/google/libphonenumber/issues/818 and 1618; ANATEL, resolution 553.
    ("55", r"([1-9][1-9])([689]\d{7})", r"\g<1>9\2"),
    # Colombia, September 2021: 60 before all fixed lines of 8 digits. github.com/vtex/front.phone/pull/78; CRC 5826.
    ("57", r"((?:[18][1-9]|[2567][2-9]|4[2-57-9])\d{6})", r"60\1"),
    # Vietnam, September 2018: mobiles of 11 digits have 10, by operator. github.com/floere/phony/issues/417;
    # github.com/validatorjs/validator.js/pull/904, with the ministry's decision 798.
    ("84", r"120(\d{7})", r"70\1"),
    ("84", r"121(\d{7})", r"79\1"),
    ("84", r"122(\d{7})", r"77\1"),
    ("84", r"12([68])(\d{7})", r"7\1\2"),
    ("84", r"12([345])(\d{7})", r"8\1\2"),
    ("84", r"127(\d{7})", r"81\1"),
    ("84", r"129(\d{7})", r"82\1"),
    ("84", r"16([2-9])(\d{7})", r"3\1\2"),
    ("84", r"18([68])(\d{7})", r"5\1\2"),
    ("84", r"199(\d{7})", r"59\1"),
    # Gabon, June 2019: a digit by operator behind the 0, which is not dialled from abroad any more.
    # github.com/google/libphonenumber/pull/2413; github.com/daviddrysdale/python-phonenumbers/issues/289
    ("241", r"0?1(\d{6})", r"11\1"),
    ("241", r"0?([26])(\d{6})", r"6\1\2"),
    ("241", r"0?5(\d{6})", r"65\1"),
    ("241", r"0?([47])(\d{6})", r"7\1\2"),
)


_RULES: Final[defaultdict[str, list[tuple[re.Pattern[str], str]]]] = defaultdict(list)
for _calling_code, _old, _new in _TABLE:
    _RULES[_calling_code].append((re.compile(_old), _new))


def renumbered(international: str) -> str:
    """The current number in place of an old one; both begin with +."""
    for end in (3, 4):
        for old, new in _RULES.get(international[1:end], ()):
            if match := old.fullmatch(international, end):
                return international[:end] + match.expand(new)
    return international


def is_renumbered(calling_code: str) -> bool:
    """True if numbers of this calling code may be old."""
    return calling_code in _RULES
