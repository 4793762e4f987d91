"""POST /identify of v1, the legacy contract, and of v1.1, through the same verb as GraphQL.

The hot path: answered directly (`direct`).
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from nexus_graph.api.http.answer import JSON, Answer, Header, encode, failed
from nexus_graph.api.http.body import decode_object
from nexus_graph.api.http.request import Post
from nexus_graph.config import Settings
from nexus_graph.door.visited import visited_identify
from nexus_graph.identifiers.normalize import identify_request
from nexus_graph.model import Family, Identification, Outcome


class LegacyContact(msgspec.Struct):
    """A family as the contract has it."""

    primaryContatctId: int  # noqa: N815 - misspelt in the contract, and kept for those who rely on it
    primaryContactId: int  # noqa: N815
    emails: tuple[str, ...]
    phoneNumbers: tuple[str, ...]  # noqa: N815
    secondaryContactIds: list[int]  # noqa: N815


class Identified(msgspec.Struct):
    """v1's answer: the legacy contract."""

    contact: LegacyContact


class IdentifiedSo(msgspec.Struct):
    """v1.1's answer: what identify did, too."""

    contact: LegacyContact
    outcome: Outcome
    version: int
    """The number of the family's newest event."""
    reason: str | None
    """Why a union was refused; null unless the outcome is REFUSED."""


class Identifiers(msgspec.Struct):
    """The body: an email, a phone or both. Other members are ignored, and a header names them."""

    email: str | None = None
    phoneNumber: str | int | float | None = None  # noqa: N815


_OUTCOMES: Final[dict[Outcome, tuple[Header, ...]]] = {
    outcome: ((b"nexus-outcome", outcome.value.encode()),) for outcome in Outcome
}

_EMAIL: Final = "email"
_PHONE: Final = "phoneNumber"
_KNOWN: Final = frozenset({_EMAIL, _PHONE})
_IGNORED: Final = b"nexus-ignored"
_NAMES_SHOWN_MAX: Final = 8
"""Names of ignored members that a header shows; the others are counted."""
_is_token = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}").fullmatch
"""The name of a member, not an identifier of a person."""


class IdentifyRoute:
    """The endpoint."""

    def __init__(self, settings: Settings, *, says_outcome: bool = False) -> None:
        """`says_outcome`: as v1.1 answers."""
        self._region = settings.phone_region
        self._says_outcome = says_outcome

    async def answer(self, post: Post) -> Answer:
        """The answer to a JSON body. Members outside the contract are ignored, and a header names them.

        Raises NexusError.
        """
        if post.fault is not None:
            raise post.fault
        given = decode_object(post.body)
        all_known = len(given) == 2 and _EMAIL in given and _PHONE in given
        unknown = [] if all_known else [*given.keys() - _KNOWN]
        try:
            request = identify_request(
                given.get(_EMAIL),
                given.get(_PHONE),
                region=self._region,
                request_id=post.request_id.uuid,
                brief=not self._says_outcome,  # the legacy contract names neither versions nor dates
            )
            found = await visited_identify(post.state["identity"], post.visit)(request)
            # Callers of one batch that name one family share the answer.
            body = encode(_so(found)) if self._says_outcome else found.family.serialised_by(_encoded, found.family)
            answer = Answer(200, body, JSON, _OUTCOMES[found.outcome])
            if request.dropped:
                answer = _with_ignored(answer, [f"{member};dropped={part}" for member, part in request.dropped])
        except Exception as error:
            if not unknown:
                raise
            answer = failed(error, post.request_id.text)  # the header belongs to a refusal too
        return answer if not unknown else _with_ignored(answer, _shown(sorted(unknown)))


def _with_ignored(answer: Answer, ignored: Sequence[str]) -> Answer:
    """The answer, with the ignored members as one list in a header (RFC 9651)."""
    others = [header for header in answer.headers if header[0] != _IGNORED]
    before = [value.decode() for name, value in answer.headers if name == _IGNORED]
    return answer._replace(headers=(*others, (_IGNORED, ", ".join((*before, *ignored)).encode())))


def _shown(names: Sequence[str]) -> list[str]:
    """The names of members that may be shown. Others are only counted, as a caller's name may be any text."""
    tokens = [name for name in names if _is_token(name)][:_NAMES_SHOWN_MAX]
    more = len(names) - len(tokens)
    return [*tokens, f"*;count={more}"] if more else tokens


def _encoded(family: Family) -> bytes:
    return encode(Identified(_contact(family)))


def _so(found: Identification) -> IdentifiedSo:
    family = found.family
    return IdentifiedSo(family.serialised_by(_contact, family), found.outcome, family.version, found.reason)


def _contact(family: Family) -> LegacyContact:
    ids = [contact.id for contact in family.contacts]
    return LegacyContact(ids[0], ids[0], family.emails, family.phones, ids[1:])
