"""What answers make of errors, and the ids that tie an answer to the log."""

import inspect
import json
from typing import cast
from uuid import UUID

import pytest

from nexus_graph import errors
from nexus_graph.api.cursors import CONTACT, encode_id
from nexus_graph.api.http.answer import graphql_error, headers_of, masked, problem
from nexus_graph.api.http.request import RequestId

CORRELATION = "7b0c2f4e-6d51-4a8e-9e33-0b8f5f8d2a10"


EVERY_ERROR = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, errors.NexusError) and value is not errors.NexusError
]


def _extensions(error: errors.NexusError) -> dict[str, object]:
    extensions: dict[str, object] = graphql_error(error, CORRELATION)["extensions"]
    return extensions


@pytest.mark.parametrize("error_type", EVERY_ERROR, ids=lambda error_type: error_type.__name__)
def test_every_error_has_an_answer_on_both_transports(error_type: type[errors.NexusError]) -> None:
    error = masked(error_type("why", field="email"))
    told = json.loads(problem(error, CORRELATION))
    assert told.keys() == {"type", "title", "status", "code", "detail", "errors", "correlationId"}
    assert told["status"] == error_type.code.status
    assert 400 <= told["status"] <= 503
    assert told["code"] == error_type.code == _extensions(error)["code"]
    assert told["detail"] == "why"
    assert told["errors"][0] == {"field": "email", "message": "why"}


def test_a_missing_identifier_names_both_fields() -> None:
    error = errors.IdentifierMissing("say one")
    assert [fault["field"] for fault in json.loads(problem(error, CORRELATION))["errors"]] == ["email", "phoneNumber"]
    assert _extensions(error) == {"code": "BAD_USER_INPUT", "fields": ("email", "phoneNumber")}


def test_trouble_says_when_to_come_back() -> None:
    error = errors.Overloaded("full")
    assert headers_of(error) == [(b"retry-after", b"1")]
    assert _extensions(error) == {"code": "OVERLOADED", "retryAfterSeconds": 1}
    assert headers_of(errors.RowRejected("no")) == []


def test_the_unexpected_is_masked_and_logged_by_type_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        encode_id(CONTACT, cast("int", "ada@example.com"))
    except TypeError as error:
        shown = masked(error)
    assert (shown.status, shown.code, shown.message) == (500, "INTERNAL", "Internal error")
    assert (shown.fields, shown.retry_after_seconds, shown.facts) == ((), None, {})
    assert _extensions(shown) == {"code": "INTERNAL", "correlationId": CORRELATION}
    logged = "".join(capsys.readouterr())
    assert "TypeError" in logged
    assert "nexus_graph/api/cursors.py:" in logged
    assert "ada" not in logged


@pytest.mark.parametrize("given", [CORRELATION, CORRELATION.upper(), CORRELATION.replace("-", "")])
def test_a_callers_uuid_is_the_requests_uuid(given: str) -> None:
    request_id = RequestId(given.encode())
    assert request_id.text == given
    assert request_id.uuid == UUID(given)


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ("00000000000000000000000000", 0),
        ("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 2**128 - 1),
        ("0123456789ABCDEFGHJKMNPQRS", sum(digit * 32 ** (25 - place) for place, digit in enumerate(range(26)))),
        ("00000000000000000000TVWXYZ", sum(digit * 32 ** (31 - digit) for digit in range(26, 32))),
    ],
)
def test_a_callers_ulid_is_the_requests_uuid(given: str, number: int) -> None:
    for spelling in (given, given.lower()):
        request_id = RequestId(spelling.encode())
        assert request_id.text == spelling
        assert request_id.uuid == UUID(int=number)


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"a b",
        b"trace-1",
        b"447900901003",
        b"nxk_0f1e2d3c",
        b"8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        b"0123456789ABCDEFGHJKMNPQRI",
        CORRELATION.encode() + b"\n",
        b"{" + CORRELATION.encode() + b"}",
        b"0f1e2d3c-4b5a49788796-a5b4c3d2e1f0",
        b"0f1e2d3c4b5a49788796a5b4c3d2e1f",
        b"ada@example.com",
        b"x" * 65,
        b"\xff",
    ],
    ids=lambda given: ascii(given)[:16],
)
def test_any_other_id_is_replaced(given: bytes | None) -> None:
    request_id = RequestId(given)
    assert request_id.text == str(request_id.uuid)
    assert request_id.uuid.version == 4
    assert RequestId(None).uuid != request_id.uuid
