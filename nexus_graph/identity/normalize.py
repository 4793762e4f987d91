"""Canonical forms of emails and phone numbers: the only way into the system for an identifier. Pure.

Both functions are idempotent: the canonical form of a canonical form is itself. They raise InvalidIdentifier, whose
message names the field and the rule, never the value.
"""

import re
import unicodedata
from functools import cache, lru_cache
from typing import Any, Final
from uuid import UUID

import phonenumbers

from nexus_graph.config import PHONES_REMEMBERED
from nexus_graph.errors import IdentifierMissing, InvalidIdentifier
from nexus_graph.identity.model import IdentifyRequest

# Two identifiers of one family may not differ by what nobody can see.
_BLANKS: Final = " \t\r\n\v\f\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_UNSEEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})
_UNSEEN_LETTERS: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)

_EMAIL_MAX_OCTETS: Final = 254
_LOCAL_PART_MAX_OCTETS: Final = 64
_PHONE_LENGTHS: Final = range(3, 21)
_E164_MIN_CHARACTERS: Final = 5
# Nothing longer has a canonical form that fits, whatever its separators, accents or blanks.
_RAW_MAX_CHARACTERS: Final = 1_024

_is_plain_email = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[a-z0-9.-]+").fullmatch

_is_international = re.compile(r"\+[0-9]{4,19}").fullmatch

_SEPARATORS: Final = " \t-.()/[]·"
_without_separators: Final = str.maketrans("", "", _SEPARATORS)
_OTHER_SEPARATORS: Final = frozenset(_SEPARATORS + "\u00a0\u2010\u2212\u2215\u30fb\u30fc\uff08\uff09\uff0e\uff0f")
_PLUSES: Final = "+\uff0b"


def identify_request(
    email_value: object,
    phone_value: object,
    *,
    region: str | None,
    request_id: UUID | None,
    brief: bool = False,
) -> IdentifyRequest:
    """The request in canonical form. Raises InvalidIdentifier for a bad field, IdentifierMissing if both are absent."""
    canonical_email = None if email_value is None else email(email_value)
    canonical_phone = None if phone_value is None else phone(phone_value, region)
    if canonical_email is None and canonical_phone is None:
        raise IdentifierMissing("email or phoneNumber is required: at least one of them, and not blank")
    return IdentifyRequest(canonical_email, canonical_phone, request_id, brief)


def email(value: object) -> str | None:
    """Trimmed, NFC, lower case; dots and plus tags stay. None if blank. Raises InvalidIdentifier."""
    if not isinstance(value, str):
        raise _bad_email("must be a string")
    text = value.strip(_BLANKS).lower()
    if _is_plain_email(text) and len(text) <= _EMAIL_MAX_OCTETS:
        return text
    return _any_email(text) if text else None


def phone(value: object, region: str | None) -> str | None:
    """E.164 where it begins with +, or where `region` makes one of it; else its digits. None if blank.

    Raises InvalidIdentifier.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 < value < 10 ** _PHONE_LENGTHS[-1]:
            raise _bad_phone(f"must be a positive number of {_PHONE_LENGTHS[0]} to {_PHONE_LENGTHS[-1]} digits")
        return _canonical_phone(str(value), region)
    if not isinstance(value, str):
        raise _bad_phone("must be a string or an integer")
    if _is_international(value) and _is_plainly_e164(value):
        return value
    text = value.strip(_BLANKS)
    if len(text) > _RAW_MAX_CHARACTERS:
        raise _bad_phone("is too long")
    return _canonical_phone(text, region) if text else None


def email_prefix(value: str) -> str:
    """What canonical emails begin with that begin so. Raises InvalidIdentifier."""
    text = value.strip(_BLANKS)
    if not text or len(text) > _EMAIL_MAX_OCTETS:
        raise InvalidIdentifier(f"emailPrefix must have 1 to {_EMAIL_MAX_OCTETS} characters", field="emailPrefix")
    text = _composed_lower_case(text)
    if any(map(_is_unseen, text)):
        raise InvalidIdentifier("emailPrefix must not contain characters that cannot be seen", field="emailPrefix")
    return text


def phone_prefix(value: str) -> str:
    """What canonical phone numbers begin with that begin so: + and digits. Raises InvalidIdentifier."""
    text = value.strip(_BLANKS).translate(_without_separators)
    if not (text.isascii() and text.removeprefix("+").isdigit()) or len(text) not in range(1, _PHONE_LENGTHS[-1] + 1):
        raise InvalidIdentifier(
            f"phonePrefix must be digits, with a leading + or without: 1 to {_PHONE_LENGTHS[-1]} characters",
            field="phonePrefix",
        )
    return text


def _any_email(text: str) -> str:
    if len(text) > _RAW_MAX_CHARACTERS:
        raise _bad_email("is too long")
    text = _composed_lower_case(text)
    if any(map(_is_unseen, text)):
        raise _bad_email("must not contain spaces, control characters or characters that cannot be seen")
    local, at, domain = text.partition("@")
    if not (local and at and domain) or "@" in domain:
        raise _bad_email("must be text, one @ and a domain")
    if len(local.encode()) > _LOCAL_PART_MAX_OCTETS:
        raise _bad_email(f"is too long: more than {_LOCAL_PART_MAX_OCTETS} octets before the @")
    if len(text.encode()) > _EMAIL_MAX_OCTETS:
        raise _bad_email(f"is too long: more than {_EMAIL_MAX_OCTETS} octets")
    return text


def _composed_lower_case(text: str) -> str:
    """NFC and lower case at once: either can undo the other, so both until nothing changes."""
    for _ in range(4):
        changed = unicodedata.normalize("NFC", text.lower())
        if changed == text:
            return text
        text = changed
    raise _bad_email("has no canonical form")


@lru_cache(maxsize=PHONES_REMEMBERED)
def _canonical_phone(text: str, region: str | None) -> str:
    digits = text.translate(_without_separators)
    if not (digits.isascii() and digits.removeprefix("+").isdigit()):
        digits = _ascii_digits(text)
    if digits.startswith("+"):
        international = digits if _is_plainly_e164(digits) else _e164(digits, None)
        if international is None:
            raise _bad_phone("begins with + but no such number is possible")
        return international
    if region is not None and (international := _e164(digits, region)):
        return international
    if len(digits) not in _PHONE_LENGTHS:
        raise _bad_phone(f"must have {_PHONE_LENGTHS[0]} to {_PHONE_LENGTHS[-1]} digits")
    return digits


def _ascii_digits(text: str) -> str:
    """The digits of any script in ASCII, after a leading + if there is one; separators dropped, all else refused."""
    kept = []
    for character in text:
        if character in _OTHER_SEPARATORS or unicodedata.category(character) in ("Zs", "Pd"):
            continue
        if _is_unseen(character):
            raise _bad_phone("must not contain control characters or characters that cannot be seen")
        digit = unicodedata.decimal(character, None)
        if digit is not None:
            kept.append(str(digit))
        elif character in _PLUSES and not kept:
            kept.append("+")
        else:
            raise _bad_phone("may only contain digits, separators and a leading +")
    return "".join(kept)


def _e164(digits: str, region: str | None) -> str | None:
    """The number as the world dials it; None if no such number is possible."""
    for _ in range(3):
        try:
            number = phonenumbers.parse(digits, region)
        except phonenumbers.NumberParseException:
            return None
        if not phonenumbers.is_possible_number(number):
            return None
        international = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        if international == digits:
            return digits if len(digits) in _PHONE_LENGTHS else None
        # A trunk prefix was dropped, say: what is left must read the same.
        digits = international
    return None


def _is_plainly_e164(digits: str) -> bool:
    """True if libphonenumber would leave the number as it stands: a tenth of the work of asking it. False: ask it."""
    if not _E164_MIN_CHARACTERS <= len(digits) <= _PHONE_LENGTHS[-1]:
        return False
    for end in (2, 3, 4):
        if numbering := _numbering(digits[1:end]):
            lengths, national_prefix = numbering
            national = digits[end:]
            return (
                len(national) in lengths
                and national[0] != "0"
                and not (national_prefix and national_prefix.match(national))
            )
    return False


@cache
def _numbering(calling_code: str) -> tuple[frozenset[int], re.Pattern[str] | None] | None:
    """How long numbers are behind this calling code, and what may be stripped from their front; None: no such code."""
    if calling_code.startswith("0") or int(calling_code) not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        return None
    region = phonenumbers.region_code_for_country_code(int(calling_code))
    metadata: Any = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(int(calling_code), region)
    prefix = metadata.national_prefix_for_parsing
    return frozenset(metadata.general_desc.possible_length), re.compile(prefix) if prefix else None


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN_CATEGORIES or character in _UNSEEN_LETTERS


def _bad_email(rule: str) -> InvalidIdentifier:
    return InvalidIdentifier(f"email {rule}", field="email")


def _bad_phone(rule: str) -> InvalidIdentifier:
    return InvalidIdentifier(f"phoneNumber {rule}", field="phoneNumber")
