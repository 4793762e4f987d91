"""Opaque strings that clients hand back: global ids and keyset cursors. Both decode strictly."""

import binascii
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from nexus_graph.errors import InvalidArgument
from nexus_graph.identity.model import Contact

CONTACT: Final = "Contact"
FAMILY: Final = "ContactFamily"

_LARGEST_ID: Final = 2**63 - 1
_LONGEST: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CURSOR: Final = "at"


class GlobalId(NamedTuple):
    """A type of the schema, and the contact id that its object is known by: a family's is its primary's."""

    type_name: str
    database_id: int


def encode_id(type_name: str, database_id: int) -> str:
    """The global id of an object."""
    return b64encode(b"%b:%d" % (type_name.encode(), database_id)).decode()


def decode_id(text: str) -> GlobalId:
    """The inverse of `encode_id`. Raises InvalidArgument."""
    type_name, database_id = _decode(text, field="id", what="a global id")
    if type_name not in (CONTACT, FAMILY) or not _is_id(database_id):
        raise InvalidArgument("id is not a global id of this API", field="id")
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

    The contact the cursor was made of may have left since. Raises InvalidArgument.
    """
    kind, key = _decode(cursor, field="after", what="a cursor")
    microseconds, _, database_id = key.partition(".")
    if kind != _CURSOR or not _is_number(microseconds) or not _is_id(database_id):
        raise InvalidArgument("after is not a cursor of this API", field="after")
    place = (int(microseconds), int(database_id))
    return bisect_right(contacts, place, key=lambda contact: (_microseconds(contact.created_at), contact.id))


def _decode(text: str, *, field: str, what: str) -> tuple[str, str]:
    try:
        if len(text) > _LONGEST:
            raise ValueError
        kind, colon, key = b64decode(text, validate=True).decode("ascii").partition(":")
        if not colon:
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
