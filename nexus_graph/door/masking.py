"""What a reader who may not see identifiers sees of them: enough to recognise one that the reader knows, no more.

An identifier always has the same mask. Emails: the first letters of local part and domain, and the last label.
Phones: the length, the country code and the last four digits, and never more than half of the digits.
"""

from typing import Final

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from nexus_graph.model import Contact, Family

_LAST_DIGITS: Final = 4
_COUNTRY_CODE_MAX: Final = 3
_HIDDEN: Final = "***"


class MaskedFamily(Family, frozen=True, dict=True):
    """A family whose identifiers are masked. As many emails and phones as the family has, in their order."""

    masked_emails: tuple[str, ...] = ()
    masked_phones: tuple[str, ...] = ()

    @property
    def emails(self) -> tuple[str, ...]:
        return self.masked_emails

    @property
    def phones(self) -> tuple[str, ...]:
        return self.masked_phones


def masked_email(email: str) -> str:
    """`lorraine@hillvalley.edu` -> `l***@h***.edu`."""
    local, _, domain = email.rpartition("@")
    name, dot, last_label = domain.rpartition(".")
    shown = f".{last_label}" if dot else ""
    return f"{local[:1]}{_HIDDEN}@{(name or domain)[:1]}{_HIDDEN}{shown}"


def masked_phone(phone: str) -> str:
    """`+447900900461` -> `+44******0461`."""
    plus = "+" if phone.startswith("+") else ""
    digits = phone.removeprefix("+")
    shown_max = len(digits) // 2
    last = min(_LAST_DIGITS, shown_max)
    first = min(_country_code_length(digits) if plus else 0, shown_max - last)
    hidden = "*" * (len(digits) - first - last)
    return f"{plus}{digits[:first]}{hidden}{digits[len(digits) - last :]}"


def masked_contact(contact: Contact) -> Contact:
    """The contact with its identifiers masked."""
    return Contact(
        contact.id,
        None if contact.email is None else masked_email(contact.email),
        None if contact.phone is None else masked_phone(contact.phone),
        contact.created_at,
    )


def masked_family(family: Family) -> Family:
    """The family with its identifiers masked; made once for all readers that share the family."""
    return MaskedFamily(
        version=family.version,
        contacts=tuple(map(masked_contact, family.contacts)),
        source=family.source,
        masked_emails=tuple(map(masked_email, family.emails)),
        masked_phones=tuple(map(masked_phone, family.phones)),
    )


def _country_code_length(digits: str) -> int:
    for length in range(1, _COUNTRY_CODE_MAX + 1):
        if int(digits[:length]) in COUNTRY_CODE_TO_REGION_CODE:
            return length
    return 0
