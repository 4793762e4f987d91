"""The one credential of a request, as its headers or the first message of its socket present it."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from nexus_graph.errors import InvalidRequest, Unauthenticated

_KEY_BEGINS: Final = b"nxk_"
_bearer = re.compile(rb"bearer +([!-~]+)", re.IGNORECASE).fullmatch


class Kind(StrEnum):
    """How a credential is checked."""

    KEY = "key"
    TOKEN = "token"  # noqa: S105 - no secret


class Credential(NamedTuple):
    """What a caller presents."""

    kind: Kind
    text: bytes


def presented(headers: Mapping[bytes, bytes]) -> Credential | None:
    """The credential in `Authorization: Bearer …` or `X-API-Key`; None if the caller presents none.

    Several lines of one header are joined with commas here, and neither a key nor a token holds one. Raises
    InvalidRequest for more than one credential, Unauthenticated for another scheme or a text that cannot be one.
    """
    authorization, key = headers.get(b"authorization"), headers.get(b"x-api-key")
    if authorization is None and key is None:
        return None
    if authorization is not None and key is not None:
        raise InvalidRequest("present one credential: either Authorization or X-API-Key")
    if key is not None:
        if b"," in key:
            raise InvalidRequest("present one credential: there is more than one X-API-Key")
        return Credential(Kind.KEY, key)
    assert authorization is not None
    return _of_authorization(authorization)


def presented_by_socket(headers: Mapping[bytes, bytes], said: object) -> Credential:
    """The credential that the first message of a WebSocket presents as `authorization`, in the form of the header's
    value. One in the headers of its handshake must be the same. Raises InvalidRequest, Unauthenticated.
    """
    credential = _of_authorization(said.encode(errors="replace") if isinstance(said, str) else b"")
    if presented(headers) not in (None, credential):
        raise Unauthenticated("the credentials of handshake and connection_init differ")
    return credential


def _of_authorization(value: bytes) -> Credential:
    if b"," in value:
        raise InvalidRequest("present one credential: there is more than one Authorization")
    found = _bearer(value)
    if found is None:
        raise Unauthenticated
    text: bytes = found[1]
    return Credential(Kind.KEY if text.startswith(_KEY_BEGINS) else Kind.TOKEN, text)
