"""The canonical form of an email address: valid by WHATWG's definition, in lower case, its domain in ASCII. Pure.

https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address; internationalised domains become A-labels by
UTS 46 (non-transitional, as browsers do it), so that both spellings are one. Two rules are narrower. The part before
the @ has at most 64 octets, and the whole 254 (RFC 5321). And no address begins with a dot: no provider issues such an
address, so the dot is a typo. Consecutive dots and a dot before the @ stay: Japanese carriers issued such addresses.
"""

import re
from typing import Final
from urllib.parse import unquote

import idna

from nexus_graph.errors import InvalidIdentifier
from nexus_graph.identifiers.pasting import BLANKS, QUOTES, is_blank, is_invisible, narrowed, unwrapped

MAX_OCTETS: Final = 254
_LOCAL_PART_MAX_OCTETS: Final = 64
_LABEL_MAX_OCTETS: Final = 63
_RAW_MAX_CHARACTERS: Final = 1_024
"""A longer text has no canonical form that fits, even if most of the text is blanks."""
_A_LABEL: Final = "xn--"
_JOINERS: Final = frozenset("\u200c\u200d")
"""Invisible characters that are letters of a domain where IDNA allows them, as in Persian."""

# Nearly every address: too short for a label above the limit, without labels for UTS 46, without pasted marks.
_SHORT: Final = 64
_is_plain = re.compile(
    r"[a-z0-9!#$%&*+/=?^_|}~-][a-z0-9.!#$%&'*+/=?^_`{|}~-]*+@[a-z0-9]++(?:-[a-z0-9]++)*+(?:\.[a-z0-9]++(?:-[a-z0-9]++)*+)*+"
).fullmatch
_is_local_part = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-][a-z0-9.!#$%&'*+/=?^_`{|}~-]*").fullmatch
_is_domain = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*").fullmatch
_find_scheme = re.compile(r"(?:mailto|smtp|e-?mail):/*", re.IGNORECASE | re.ASCII).match
_find_quoted_local_part = re.compile(rf"[{QUOTES}]([^@]+)[{QUOTES}]@").match


def email(value: object) -> str | None:
    """The address in canonical form; None if blank. Raises InvalidIdentifier."""
    if not isinstance(value, str):
        raise _bad("must be a string")
    text = value.strip(BLANKS).lower()
    if len(text) <= _SHORT and _is_plain(text):
        return text
    return _any_email(value)


def email_prefix(value: str) -> str:
    """The canonical form of an address's beginning. Raises InvalidIdentifier.

    A domain label outside ASCII counts as complete: the A-label of a partial label begins differently.
    """
    text = narrowed(value.strip(BLANKS))
    if not text or len(text) > MAX_OCTETS:
        raise _bad(f"must have 1 to {MAX_OCTETS} characters", "emailPrefix")
    if any(map(is_invisible, text)):
        raise _bad("must not contain invisible characters", "emailPrefix")
    local, at, domain = text.partition("@")
    if not domain.isascii():
        try:
            domain = _ascii_domain(domain)
        except InvalidIdentifier:
            raise _bad("must name a domain that can be written in ASCII", "emailPrefix") from None
    return f"{local.lower()}{at}{domain.lower()}"


def _any_email(value: str) -> str | None:
    if is_blank(value):
        return None
    if len(value.strip(BLANKS)) > _RAW_MAX_CHARACTERS:
        raise _bad("is too long")
    local, at, domain = _bare(value).partition("@")
    if not (local and at and domain) or "@" in domain:
        raise _bad("must be text, one @ and a domain")
    if any(map(is_invisible, local)) or any(map(is_invisible, set(domain) - _JOINERS)):
        raise _bad("must not contain spaces, control characters or invisible characters")
    return _checked(local.lower(), domain)


def _bare(value: str) -> str:
    """The address alone, without scheme, quotes and other marks around it."""
    text = value
    while True:
        bare = narrowed(text).strip(BLANKS)
        if scheme := _find_scheme(bare):
            bare = unquote(bare[scheme.end() :].partition("?")[0], errors="replace")
        elif quoted := _find_quoted_local_part(bare):
            bare = f"{quoted[1]}@{bare[quoted.end() :]}"
        else:
            bare = unwrapped(bare)
        if bare == text:
            return text
        text = bare


def _checked(local: str, domain: str) -> str:
    if len(local.encode()) > _LOCAL_PART_MAX_OCTETS:
        raise _bad(f"is too long: more than {_LOCAL_PART_MAX_OCTETS} octets before the @")
    if not _is_local_part(local):
        raise _bad("may only have letters a to z, digits and .!#$%&'*+/=?^_`{|}~- before the @, and no dot first")
    domain = domain.lower() if domain.isascii() else domain
    if not domain.isascii() or _A_LABEL in domain:
        domain = _ascii_domain(domain)
    if len(local) + 1 + len(domain) > MAX_OCTETS:
        raise _bad(f"is too long: more than {MAX_OCTETS} octets")
    if not _is_domain(domain):
        raise _bad("must have a domain after the @: labels of letters, digits and inner hyphens, each of 1 to 63")
    return f"{local}@{domain}"


def _ascii_domain(domain: str) -> str:
    """The domain with A-labels, by UTS 46. Raises InvalidIdentifier for a label that UTS 46 does not allow."""
    try:
        mapped = idna.uts46_remap(domain, std3_rules=False, transitional=False)
        return ".".join(map(_ascii_label, mapped.split(".")))
    except UnicodeError:  # idna's errors are subclasses
        raise _bad("has a domain that is no internationalised domain name") from None


def _ascii_label(label: str) -> str:
    """The label in ASCII. Raises UnicodeError."""
    if label.startswith(_A_LABEL):
        if len(label) > _LABEL_MAX_OCTETS:
            raise UnicodeError
        decoded = label.removeprefix(_A_LABEL).encode("ascii").decode("punycode")
        if decoded.isascii() or idna.uts46_remap(decoded, std3_rules=False) != decoded or _a_label(decoded) != label:
            raise UnicodeError
        return label
    return label if label.isascii() else _a_label(label)


def _a_label(label: str) -> str:
    """The A-label of a mapped label. UTS 46 allows more labels than IDNA 2008, such as emoji."""
    idna.check_nfc(label)
    idna.check_initial_combiner(label)
    for place, character in enumerate(label):
        if character in _JOINERS and not idna.valid_contextj(label, place):
            raise UnicodeError
    idna.check_bidi(label)
    return _A_LABEL + label.encode("punycode").decode("ascii")


def _bad(rule: str, field: str = "email") -> InvalidIdentifier:
    return InvalidIdentifier(f"{field} {rule}", field=field)
