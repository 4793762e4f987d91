"""Opaque strings that clients send back: global ids and keyset cursors. Both decode strictly."""

import binascii
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from nexus_graph.errors import InvalidArgument
from nexus_graph.model import Contact, ContactPlace

CONTACT: Final = "Contact"
FAMILY: Final = "ContactFamily"
EVENT: Final = "IdentityEvent"

_LARGEST_ID: Final = 2**63 - 1
_LONGEST: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CURSOR: Final = "at"
_SEQUENCE: Final = "seq"
_PLACE: Final = "in"
_LONGEST_PLACE: Final = 600
"""An email's 254 octets, in base64, with room."""


class GlobalId(NamedTuple):
    """A type of the schema and the number of an object: a contact's id, the id of a contact that leads the family or
    once led it, or the sequence of an event.
    """

    type_name: str
    database_id: int


def encode_id(type_name: str, database_id: int) -> str:
    """The global id of an object."""
    return b64encode(b"%b:%d" % (type_name.encode(), database_id)).decode()


def decode_id(text: str, *, field: str) -> GlobalId:
    """The inverse of `encode_id`. Raises InvalidArgument."""
    type_name, database_id = _decode(text, field=field, what="a global id")
    if type_name not in (CONTACT, FAMILY, EVENT) or not _is_id(database_id):
        raise InvalidArgument(f"{field} is not a global id of this API", field=field)
    return GlobalId(type_name, int(database_id))


def contact_id(text: str, *, field: str) -> int:
    """The contact that a raw database id, or a global id of a contact or family, stands for. Raises InvalidArgument."""
    if _is_id(text):
        return int(text)
    if not text.lstrip("-").isdigit():
        type_name, database_id = _decode(text, field=field, what="a contact's id")
        if type_name in (CONTACT, FAMILY) and _is_id(database_id):
            return int(database_id)
    raise InvalidArgument(f"{field} is not a contact's id", field=field)


def encode_cursor(contact: Contact) -> str:
    """The place of a contact among the secondaries: its (created_at, id)."""
    return b64encode(b"%b:%d.%d" % (_CURSOR.encode(), _microseconds(contact.created_at), contact.id)).decode()


def after(contacts: Sequence[Contact], cursor: str) -> int:
    """How many of the contacts, ordered by (created_at, id), stand at or before the cursor.

    The cursor's own contact may have left the list. Raises InvalidArgument.
    """
    kind, key = _decode(cursor, field="after", what="a cursor")
    microseconds, _, database_id = key.partition(".")
    if kind != _CURSOR or not _is_number(microseconds) or not _is_id(database_id):
        raise InvalidArgument("after is not a cursor of this API", field="after")
    place = (int(microseconds), int(database_id))
    return bisect_right(contacts, place, key=lambda contact: (_microseconds(contact.created_at), contact.id))


def encode_sequence(sequence: int) -> str:
    """The place of an identity event among all."""
    return b64encode(b"%b:%d" % (_SEQUENCE.encode(), sequence)).decode()


def sequence(cursor: str) -> int:
    """The inverse of `encode_sequence`. Raises InvalidArgument."""
    kind, key = _decode(cursor, field="after", what="a cursor")
    if kind != _SEQUENCE or not _is_id(key):
        raise InvalidArgument("after is not a cursor of this list", field="after")
    return int(key)


def encode_place(place: ContactPlace) -> str:
    """The place of a contact in a list by email, phone or time. It holds nothing that its answer does not hold too."""
    by = f"@{_microseconds(place.by)}" if isinstance(place.by, datetime) else f"={place.by}"
    return b64encode(f"{_PLACE}:{place.id}{by}".encode()).decode()


def place(cursor: str, *, by_time: bool) -> ContactPlace:
    """The inverse of `encode_place`, of a list in that order. Raises InvalidArgument."""
    kind, key = _decode(cursor, field="after", what="a cursor", longest=_LONGEST_PLACE)
    database_id, sign, by = key.partition("@" if by_time else "=")
    try:
        if kind != _PLACE or not sign or not _is_id(database_id) or len(by) > _LONGEST_PLACE:
            raise ValueError
        return ContactPlace(_EPOCH + int(by) * _MICROSECOND if by_time else by, int(database_id))
    except (ValueError, OverflowError):
        raise InvalidArgument("after is not a cursor of this list", field="after") from None


def _decode(text: str, *, field: str, what: str, longest: int = _LONGEST) -> tuple[str, str]:
    try:
        if len(text) > longest:
            raise ValueError
        kind, colon, key = b64decode(text, validate=True).decode().partition(":")
        if not colon or "\0" in key:
            raise ValueError
    except (ValueError, binascii.Error):
        raise InvalidArgument(f"{field} is not {what}", field=field) from None
    return kind, key


def _is_id(text: str) -> bool:
    return _is_number(text) and text[0] != "0" and int(text) <= _LARGEST_ID


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
