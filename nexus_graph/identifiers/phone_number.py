"""The canonical form of a phone number: E.164 where the world can dial it, else its digits. Pure.

A text becomes ASCII, and loses the marks around it (`pasting`) and a scheme (`tel:`). An extension is dropped and
reported. A date, an IP address, a decimal or two numbers are refused: their digits would be a false number. The rest
must be digits, with a + or without.
"""

import re
import unicodedata
from datetime import date
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Final, Self
from urllib.parse import unquote

import phonenumbers
from phonenumbers import PhoneNumberType, ValidationResult

from nexus_graph.errors import InvalidIdentifier
from nexus_graph.identifiers.pasting import BLANKS, INVISIBLE_MARKS, is_blank, is_invisible, narrowed, unwrapped
from nexus_graph.identifiers.renumbering import is_renumbered, renumbered

Dropped = tuple[tuple[str, str], ...]
"""Dropped parts of a request: the member, and the part of the member."""

LENGTHS: Final = range(3, 21)
_E164_MIN_CHARACTERS: Final = 5
_E164_MAX_DIGITS: Final = 15
_RAW_MAX_CHARACTERS: Final = 1_024
"""A longer text has no canonical form that fits, even if most of the text is separators."""
_SPELLED_MAX_CHARACTERS: Final = 100
"""A number of 20 digits with separators and an extension has fewer. Bounds the search for an extension, whose time may
grow with the square of the length."""
_WHOLE_DIGITS: Final = 7
"""The fewest digits of a whole number without an area code."""
_EXACT_DIGITS: Final = 15
"""Digits of a number that a spreadsheet, like any double, keeps exactly."""
_REMEMBERED_MAX: Final = 8_192
"""Canonical forms that each process keeps: parsing a number costs more than all else that identify does here."""
_YEARS: Final = range(1900, 2100)

_FIELD: Final = "phoneNumber"
_NOTHING: Final[Dropped] = ()
_EXTENSION: Final = (_FIELD, "extension")
_PARAMETERS: Final = (_FIELD, "parameters")

_is_international = re.compile(r"\+[0-9]{4,19}").fullmatch
_SEPARATORS: Final = " \t-.()/[]\u00b7"
_without_separators: Final = str.maketrans("", "", _SEPARATORS)
_ASCII_SEPARATORS: Final = {
    "\u2010": "-", "\u2212": "-", "\u2215": "/", "\u2044": "/", "\u30fb": "\u00b7", "\u30fc": "-", "\u00b7": "\u00b7",
}  # fmt: skip
_is_number = re.compile(r"\+?[0-9]*").fullmatch

_find_scheme = re.compile(r"(tel|callto|sms|smsto|whatsapp|facetime|facetime-audio|sips?):/*", re.IGNORECASE).match
_EXTENSION_WORDS: Final = (
    r"extensi[o\u00f3]n|ext|extn|xt|int|interno|anexo|ramal|poste|durchwahl|klappe|toestel|anknytning|wew"
    r"|\u0434\u043e\u0431|\u0434\u043e\u0431\u0430\u0432\u043e\u0447\u043d\u044b\u0439|\u0434\u043e\u043f|\u0432\u043d|\u5185\u7dda"
)
_EXTENSIONS: Final = (
    # The fewest digits before an extension: 12x34 is a size.
    (3, re.compile(rf"[ ,;./(\[\-]*(?:{_EXTENSION_WORDS})\.?[ :=\-]*\(?[0-9]{{1,9}}\)?#?", re.IGNORECASE)),
    (_WHOLE_DIGITS, re.compile(r"[ ,;(\[]*[xpw#~][ .:=]*[0-9]{1,9}#?", re.IGNORECASE)),
    (_WHOLE_DIGITS, re.compile(r" ?,+ ?[0-9]{1,6}#?")),  # a pause: digits to dial after the call is answered
)
_is_scientific = re.compile(r"([0-9])(?:[.,]([0-9]+))?[eE]\+?([0-9]{1,3})").fullmatch
_is_decimal = re.compile(r"([+-]?)([0-9]+)([.,])([0-9]+)").fullmatch
_is_dotted_quad = re.compile(r"(?:(?:0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])(?:\.(?!$)|$)){4}").fullmatch
_is_pairs = re.compile(r"[0-9]{2}(?:\.[0-9]{2}){3}").fullmatch
_is_year_first = re.compile(r"([0-9]{4})([-/.]) ?([0-9]{1,2})\2 ?([0-9]{1,2})").fullmatch
_is_year_last = re.compile(r"([0-9]{1,2})([-/.]) ?([0-9]{1,2})\2 ?([0-9]{4})").fullmatch
_is_short_date = re.compile(r"([0-9]{1,2})([/.]) ?([0-9]{1,2})\2 ?([0-9]{2})").fullmatch
_is_month = re.compile(r"(?:19|20)[0-9]{2}[-/](?:0[1-9]|1[0-2])|(?:0?[1-9]|1[0-2])/(?:19|20)[0-9]{2}").fullmatch
_find_spaced_dash = re.compile(r"\s-+|-+\s").search
_has_two_long_groups = re.compile(rf"[0-9]{{{_WHOLE_DIGITS},}}[^0-9+]+[0-9]{{{_WHOLE_DIGITS},}}").search


class Written(float):
    """A JSON number with a point or an exponent, and its text: 4.4E11 is no phone number."""

    def __new__(cls, text: str) -> Self:
        """`text` is the number as JSON writes it."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


def phone(value: object, region: str | None) -> tuple[str | None, Dropped]:
    """The number in canonical form, None if blank; and the dropped parts. Raises InvalidIdentifier."""
    if isinstance(value, str):
        if _is_international(value) and _is_plainly_e164(value):
            return value, _NOTHING
        text = value.strip(BLANKS)
    elif isinstance(value, int) and not isinstance(value, bool):
        if not 0 < value < 10 ** LENGTHS[-1]:
            raise _bad(f"must be a positive number of {LENGTHS[0]} to {LENGTHS[-1]} digits")
        text = str(value)
    elif isinstance(value, float):
        text = value.text if isinstance(value, Written) else repr(value)
    else:
        raise _bad("must be a string or an integer")
    if len(text) > _RAW_MAX_CHARACTERS:
        raise _bad("is too long")
    return _canonical(text, region) if text else (None, _NOTHING)


def phone_prefix(value: str) -> str:
    """The canonical form of a number's beginning: + and digits. Raises InvalidIdentifier."""
    text = value.strip(BLANKS).translate(_without_separators)
    if not (text.isascii() and text.removeprefix("+").isdigit()) or len(text) not in range(1, LENGTHS[-1] + 1):
        raise InvalidIdentifier(
            f"phonePrefix must be digits, with a leading + or without: 1 to {LENGTHS[-1]} characters",
            field="phonePrefix",
        )
    return text


@lru_cache(maxsize=_REMEMBERED_MAX)
def _canonical(text: str, region: str | None) -> tuple[str | None, Dropped]:
    if text.isascii() and text.isdigit():
        return _dialled(text, region), _NOTHING
    if is_blank(text):
        return None, _NOTHING
    dropped: list[tuple[str, str]] = []
    number = unwrapped(_in_ascii(text))
    if scheme := _find_scheme(number):
        number = _of_uri(scheme[1].lower(), number[scheme.end() :], dropped)
    if len(number) > _SPELLED_MAX_CHARACTERS:
        raise _bad("is too long")
    number = _without_extension(_without_fraction(number), dropped)
    _refuse_other_things(number)
    _refuse_two_numbers(number)
    number = number.translate(_without_separators)
    if not _is_number(number):
        raise _bad("may only contain digits, separators and a leading +")
    return _dialled(number, region), tuple(dict.fromkeys(dropped))


# From a text to a number


def _in_ascii(text: str) -> str:
    """The text with the digits, blanks and dashes of any script in ASCII, without invisible marks."""
    kept = []
    for character in narrowed(text):
        if character.isascii() and character.isprintable():
            kept.append(character)
        elif character in INVISIBLE_MARKS:
            continue
        elif character in BLANKS and character not in "\r\n\v\f\u2028\u2029":
            kept.append(" ")
        elif character in _ASCII_SEPARATORS:
            kept.append(_ASCII_SEPARATORS[character])
        elif unicodedata.category(character) == "Pd":
            kept.append("-")
        elif is_invisible(character):
            raise _bad("must not contain control characters or invisible characters")
        else:
            digit = unicodedata.decimal(character, None)
            kept.append(character if digit is None else str(digit))
    return "".join(kept)


def _of_uri(scheme: str, rest: str, dropped: list[tuple[str, str]]) -> str:
    """The number that a tel:, sms: or sip: URI names; RFC 3966, 5724, 3261."""
    rest, question_mark, _ = unquote(rest, errors="replace").partition("?")
    if question_mark:
        dropped.append(_PARAMETERS)
    if scheme.startswith("sip"):
        rest = rest.partition("@")[0]
        if not rest.startswith("+"):
            raise _bad("of a SIP address must begin with +")
    number, *parameters = rest.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.lower() == "phone-context":
            # The area of a local number; a domain in its place does not say how to dial the number.
            if value.startswith("+") and not number.startswith("+"):
                number = value + number
        elif name:
            dropped.append(_EXTENSION if name.lower() == "ext" else _PARAMETERS)
    return unwrapped(number)


def _without_fraction(number: str) -> str:
    """The number without a program's exponent or zero fraction. Raises InvalidIdentifier for other decimals."""
    if scientific := _is_scientific(number):
        first, decimals, exponent = scientific.groups(default="")
        if len(decimals) != int(exponent) or int(exponent) >= _EXACT_DIGITS:
            raise _bad("is in scientific notation, as a spreadsheet shows large numbers: digits are gone")
        return f"{first}{decimals}"
    decimal = _is_decimal(number)
    if decimal is None:
        return number
    sign, whole, point, fraction = decimal.groups()
    if sign == "-":
        raise _bad("must not be negative")
    if fraction == "0" or (fraction.strip("0") == "" and (len(fraction) == 2 or len(whole) >= _WHOLE_DIGITS)):
        return number[: decimal.end(2)]
    if point == "." and (
        len(fraction) <= 2 or len(whole) >= _WHOLE_DIGITS or (len(whole) == 1 and len(fraction) < _WHOLE_DIGITS)
    ):
        raise _bad("must not be a decimal number")
    return number


def _without_extension(number: str, dropped: list[tuple[str, str]]) -> str:
    for digits_before, extension in _EXTENSIONS:
        for match in extension.finditer(number):
            if match.end() == len(number) and _count(number[: match.start()]) >= digits_before:
                dropped.append(_EXTENSION)
                return number[: match.start()]
    return number


def _refuse_other_things(number: str) -> None:
    """Raises InvalidIdentifier for a date and an IP address: their digits would be a false number."""
    if _is_dotted_quad(number) and not _is_pairs(number):
        raise _bad("must not be an IP address")
    if _is_month(number):
        raise _bad("must not be a date")
    if dated := _is_year_first(number):
        year, _, month, day = dated.groups()
    elif dated := _is_year_last(number):
        day, _, month, year = dated.groups()
    elif dated := _is_short_date(number):
        day, _, month, short_year = dated.groups()
        year = f"20{short_year}"
    else:
        return
    if int(year) in _YEARS and (_is_date(year, month, day) or _is_date(year, day, month)):
        raise _bad("must not be a date")


def _is_date(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def _refuse_two_numbers(number: str) -> None:
    """Raises InvalidIdentifier for `030 1234562/63`, `5551234 - 5551235` and the like: their digits are no number."""
    digits = re.sub("[^0-9]", "", number)
    international = number.lstrip(" (").startswith("+") or digits.startswith("00")
    too_long = digits != number and len(digits.removeprefix("00")) > _E164_MAX_DIGITS
    if too_long or _is_slash_list(number, digits, international=international):
        raise _bad("must be one number: this looks like two")
    if not international and (_has_two_long_groups(number) or _has_two_halves(number)):
        raise _bad("must be one number: this looks like two")


def _is_slash_list(number: str, digits: str, *, international: bool) -> bool:
    """True if slashes separate numbers or their last digits: not after an area code, nor between pairs of digits."""
    counts = [count for count in map(_count, number.split("/")) if count]
    if len(counts) < 2:
        return False
    first, *others = counts
    if any(count >= 5 and after < 4 for count, after in pairwise(others)):
        return True
    if first <= 4 or (first <= 6 and (international or digits.startswith("0"))):
        return False
    return not (international and first <= 10 and len(others) == 1 and others[0] >= 4)


def _has_two_halves(number: str) -> bool:
    """True for two whole numbers with a spaced dash between, and for two adjacent numbers of one shape."""
    dash = _find_spaced_dash(number)
    if dash and min(_count(number[: dash.start()]), _count(number[dash.end() :])) >= _WHOLE_DIGITS:
        return True
    shape = re.sub("[0-9]", "9", number)
    return any(
        _count(number[:place]) >= _WHOLE_DIGITS and shape[:place] == shape[place + 1 :]
        for place, character in enumerate(number)
        if character == " "
    )


def _count(text: str) -> int:
    return sum(map(str.isdigit, text))


# From a number to its canonical form


def _dialled(number: str, region: str | None) -> str:
    """E.164 if the number has a + or belongs to `region`; else the digits."""
    if number.strip("+0") == "" and len(number.lstrip("+")) in LENGTHS:
        raise _bad("must have a digit other than 0")
    if number.startswith("+"):
        international = number if _is_plainly_e164(number) else _e164(number, None)
        if international is None:
            raise _bad("begins with + but no such number is possible")
        return international
    if region is not None and (international := _of_region(number, region)):
        return international
    if len(number) not in LENGTHS:
        raise _bad(f"must have {LENGTHS[0]} to {LENGTHS[-1]} digits")
    return number


def _of_region(digits: str, region: str) -> str | None:
    """The number as E.164, as a caller in this region means it; None if that is uncertain.

    Digits that begin with the region's own calling code are an international number without +, or a national number.
    libphonenumber reads 49 171… in Germany as national, and would put another 49 before the digits (see its FAQ).
    """
    code = phonenumbers.country_code_for_region(region)
    with_code = f"+{code}{digits}"
    if (today := renumbered(with_code)) != with_code:
        return _e164(today, None)
    here = _e164(digits, region)
    abroad = _e164(f"+{digits}", None) if digits.startswith(str(code)) else None
    if abroad is None or here is None or abroad == here:
        return here or abroad
    if _is_valid(abroad):
        return abroad
    if _is_valid(here) and not (_dials_trunk(region) and _is_fixed_line(here)):
        return here
    return None


def _e164(digits: str, region: str | None) -> str | None:
    """The number as the world dials it; None if no such number is possible, or only a local one."""
    for _ in range(4):
        if digits.startswith("+"):
            digits = renumbered(digits)
        try:
            number = phonenumbers.parse(digits, region)
        except phonenumbers.NumberParseException:
            return None
        if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
            return None
        international = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        if international == digits:
            return digits if len(digits) in LENGTHS else None
        # Parsing changed the digits, as by dropping a trunk prefix: parse the result until it is stable.
        digits = international
    return None


def _is_valid(international: str) -> bool:
    return phonenumbers.is_valid_number(phonenumbers.parse(international))


def _is_fixed_line(international: str) -> bool:
    return phonenumbers.number_type(phonenumbers.parse(international)) == PhoneNumberType.FIXED_LINE


def _dials_trunk(region: str) -> bool:
    """True if fixed lines of the region are written with a prefix, as 030 in Germany."""
    metadata: Any = phonenumbers.PhoneMetadata.metadata_for_region(region)
    return metadata is not None and metadata.national_prefix is not None


def _is_plainly_e164(digits: str) -> bool:
    """True if libphonenumber would not change the number, at a tenth of the cost of parsing. False: parse."""
    if not _E164_MIN_CHARACTERS <= len(digits) <= LENGTHS[-1]:
        return False
    for end in (2, 3, 4):
        if numbering := _numbering(digits[1:end]):
            lengths, national_prefix, old_numbers = numbering
            national = digits[end:]
            return (
                len(national) in lengths
                and national[0] != "0"
                and not (national_prefix and national_prefix.match(national))
                and not (old_numbers and renumbered(digits) != digits)
            )
    return False


@cache
def _numbering(calling_code: str) -> tuple[frozenset[int], re.Pattern[str] | None, bool] | None:
    """The lengths of a calling code's numbers, the prefix that parsing may strip, and whether old numbers exist; None
    if there is no such code.
    """
    if calling_code.startswith("0") or int(calling_code) not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        return None
    region = phonenumbers.region_code_for_country_code(int(calling_code))
    metadata: Any = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region)
    prefix = metadata.national_prefix_for_parsing
    lengths = frozenset(metadata.general_desc.possible_length)
    return lengths, re.compile(prefix) if prefix else None, is_renumbered(calling_code)


def _bad(rule: str) -> InvalidIdentifier:
    return InvalidIdentifier(f"{_FIELD} {rule}", field=_FIELD)
