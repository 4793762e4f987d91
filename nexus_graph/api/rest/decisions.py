"""POST /v2/identify and /v2/identify/batch."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from msgspec import Raw

from nexus_graph.api.http.answer import JSON, Answer, encode, masked, problem
from nexus_graph.api.http.request import Post
from nexus_graph.api.rest.asked import body_of, require_known
from nexus_graph.api.rest.idempotency import REPLAYED, key_of
from nexus_graph.api.rest.shapes import (
    ROWS_MAX,
    BatchAnswer,
    BatchBody,
    DecidedRow,
    Family,
    Identified,
    IdentifyBody,
    dropped_of,
    family_of,
)
from nexus_graph.config import Settings
from nexus_graph.door.visited import visited_identify, visited_ordered
from nexus_graph.errors import InvalidArgument, InvalidRequest, NexusError
from nexus_graph.identifiers.normalize import identify_request
from nexus_graph.identity import ordered
from nexus_graph.model import Identification, IdentifyRequest

BATCH_MAX_BYTES: Final = 512 * 1024
"""The largest body of a batch: 500 rows of the longest addresses and numbers, escaped, fit."""

_ONE: Final = "/v2/identify"
_BATCH: Final = "/v2/identify/batch"


class Decisions:
    """The endpoints."""

    def __init__(self, settings: Settings) -> None:
        self._region = settings.phone_region

    async def identify(self, post: Post) -> Answer:
        """What was decided about one request. Raises NexusError."""
        request = self._request(body_of(post, IdentifyBody), post)
        identity, visit = post.state["identity"], post.visit
        key = key_of(post, _ONE)
        if key is None:
            return _identified(await visited_identify(identity, visit)(request), request)
        (found,), is_replayed = await visited_ordered(identity, visit).once(key, [request])
        answer = _identified(found, request)
        return answer.with_headers(REPLAYED) if is_replayed else answer

    async def batch(self, post: Post) -> Answer:
        """A result for each row, in order. Raises NexusError if none could be decided."""
        rows = _rows(body_of(post, BatchBody))
        requests = [self._request_of(row, number, post) for number, row in enumerate(rows)]
        key = key_of(post, _BATCH)
        valid = [request for request in requests if isinstance(request, IdentifyRequest)]
        deciding = visited_ordered(post.state["identity"], post.visit)
        is_replayed = False
        decided: Sequence[Identification | NexusError] = ()
        if key is not None:
            decided, is_replayed = await deciding.once(key, valid)
        elif valid:
            decided = await deciding.in_order(valid)
        results = list(_results(requests, decided, post))
        return Answer(HTTPStatus.OK, encode(BatchAnswer(results)), JSON, REPLAYED if is_replayed else ())

    def _request(self, given: Mapping[str, Any], post: Post) -> IdentifyRequest:
        return identify_request(
            given.get("email"), given.get("phoneNumber"), region=self._region, request_id=post.request_id.uuid
        )

    def _request_of(self, row: object, number: int, post: Post) -> IdentifyRequest | NexusError:
        """The request of a row, or why there is none."""
        try:
            if not isinstance(row, dict):
                raise InvalidRequest(f"row {number} must be an object")
            require_known(row, IdentifyBody, f"row {number}")
            return self._request(row, post)
        except NexusError as error:
            return error


def _rows(given: Mapping[str, Any]) -> Sequence[object]:
    rows = given.get("rows")
    if not isinstance(rows, list):
        raise InvalidArgument("rows must be a list", field="rows")
    if len(rows) > ROWS_MAX:
        raise InvalidArgument(f"rows must be at most {ROWS_MAX}", field="rows")
    return rows


def _identified(found: Identification, request: IdentifyRequest) -> Answer:
    family = found.family
    shown = Identified(
        found.outcome.value, family.version, found.reason, family_of(family), dropped_of(request.dropped)
    )
    return Answer(HTTPStatus.OK, encode(shown))


def _results(
    requests: Sequence[IdentifyRequest | NexusError], decided: Sequence[Identification | NexusError], post: Post
) -> Iterator[Raw]:
    """A result for each request; `decided` has one for each that could be read."""
    answers = iter(decided)
    contacts = 0
    for request in requests:
        if isinstance(request, NexusError):
            yield _problem(request, post)
            continue
        found = next(answers)
        if isinstance(found, NexusError):
            yield _problem(found, post)
            continue
        is_first, contacts = contacts == 0, contacts + len(found.family.contacts)
        family = family_of(found.family) if is_first or contacts <= ordered.SHOWN_MAX_CONTACTS else None
        yield Raw(encode(_row(found, family, request)))


def _row(found: Identification, family: Family | None, request: IdentifyRequest) -> DecidedRow:
    dropped = dropped_of(request.dropped)
    return DecidedRow(200, found.outcome.value, found.family.version, found.reason, family, dropped)


def _problem(error: NexusError, post: Post) -> Raw:
    return Raw(problem(masked(error), post.request_id.text))
