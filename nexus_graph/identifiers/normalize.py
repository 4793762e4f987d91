"""Canonical forms of emails and phone numbers: the only way into the system for an identifier. Pure.

The functions are idempotent. They raise InvalidIdentifier, whose message names the field and the rule, never the value.
The rules: `email_address`, `phone_number`.
"""

from typing import Final
from uuid import UUID

from nexus_graph.errors import IdentifierMissing
from nexus_graph.identifiers import phone_number
from nexus_graph.identifiers.email_address import email, email_prefix
from nexus_graph.identifiers.phone_number import Written, phone_prefix
from nexus_graph.model import IdentifyRequest

NO_IDENTIFIER: Final = "email or phoneNumber is required: at least one of them, and not blank"

__all__ = ["NO_IDENTIFIER", "Written", "email", "email_prefix", "identify_request", "phone", "phone_prefix"]


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
    canonical_phone, dropped = (None, ()) if phone_value is None else phone_number.phone(phone_value, region)
    if canonical_email is None and canonical_phone is None:
        raise IdentifierMissing(NO_IDENTIFIER)
    return IdentifyRequest(canonical_email, canonical_phone, request_id, brief, dropped)


def phone(value: object, region: str | None) -> str | None:
    """E.164 if the number begins with + or belongs to `region`; else the digits. None if blank.

    Raises InvalidIdentifier.
    """
    return phone_number.phone(value, region)[0]
