"""POST /identify, to the letter of the legacy contract."""

import asyncio
import gzip
import json
import re
import zlib
from uuid import UUID

import httpx2
import pytest

from nexus_graph.store.database import Pool
from tests.stage.running import ApiServer, both_ways

pytestmark = both_ways

AS_JSON = {"Content-Type": "application/json"}
ADA = {"email": "ada@example.com", "phoneNumber": "123456"}
UNKNOWN_OUTCOME = """
    CREATE OR REPLACE FUNCTION identify_in_turn(
        wanted_emails text[], wanted_phones text[], requests uuid[], family_limit integer
    ) RETURNS TABLE (
        outcome text, reason text, family_id bigint, version bigint,
        contact_ids bigint[], emails text[], phones text[], created_ats timestamptz[]
    ) LANGUAGE plpgsql VOLATILE AS $$ BEGIN outcome := 'GUESSED ' || wanted_emails[1]; RETURN NEXT; END $$
"""


async def test_the_answer_is_exactly_the_contract(api: httpx2.AsyncClient) -> None:
    await api.post("/identify", json=ADA)
    response = await api.post("/identify", json={"email": "lovelace@example.com", "phoneNumber": 123456})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["nexus-outcome"] == "LINKED"
    assert response.text == (
        '{"contact":{"primaryContatctId":1,"primaryContactId":1,'
        '"emails":["ada@example.com","lovelace@example.com"],"phoneNumbers":["123456"],"secondaryContactIds":[2]}}'
    )


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON;version=1"]
)
async def test_content_types_of_old_clients_are_taken(api: httpx2.AsyncClient, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    response = await api.post("/identify", content=b'{"email": "ada@example.com"}', headers=headers)
    assert response.status_code == 200


async def test_a_body_without_a_content_type_is_refused(api: httpx2.AsyncClient) -> None:
    response = await api.post("/identify", content=b'{"email": "ada@example.com"}')
    assert (response.status_code, response.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_unknown_members_are_ignored_and_named(api: httpx2.AsyncClient) -> None:
    plain = await api.post("/identify", json=ADA)
    assert "nexus-ignored" not in plain.headers
    body = {**ADA, "phone": "999999", "name": {"first": "Ada"}, "tags": [1, 2]}
    response = await api.post("/identify", json=body)
    assert response.text == plain.text
    assert response.headers["nexus-ignored"] == "name, phone, tags"


@pytest.mark.parametrize(
    ("members", "ignored"),
    [
        ({"phone_number": "777777"}, "phone_number"),
        ({"Email": "x", "e-mail": "y"}, "Email, e-mail"),
        ({"bob@example.com": 1}, "*;count=1"),
        (
            {"447900900123": 1, "phone": 1, "a b": 1, "x" * 41: 1, "\r\nSet-Cookie: a": 1, "": 1, "ä": 1},
            "phone, *;count=6",
        ),
        ({f"n{number}": 1 for number in range(12)}, "n0, n1, n10, n11, n2, n3, n4, n5, *;count=4"),
    ],
    ids=lambda value: ascii(value)[:32],
)
async def test_names_that_may_be_anything_are_counted(
    api: httpx2.AsyncClient, members: dict[str, object], ignored: str
) -> None:
    for known, status in ((ADA, 200), ({}, 400), ({"email": "nobody"}, 400)):
        response = await api.post("/identify", json={**known, **members})
        assert (response.status_code, response.headers["nexus-ignored"]) == (status, ignored)
        assert (status == 200) is ("code" not in response.json())


async def test_dropped_parts_are_named_with_the_members(api: httpx2.AsyncClient) -> None:
    response = await api.post("/identify", json={"phoneNumber": "+1 415 555 1501 x12", "phone": "1"})
    assert response.json()["contact"]["phoneNumbers"] == ["+14155551501"]
    assert response.headers["nexus-ignored"] == "phoneNumber;dropped=extension, phone"


@pytest.mark.parametrize("path", ["/identify", "/graphql"])
async def test_packed_bodies(api: httpx2.AsyncClient, path: str) -> None:
    asked = b'{"email": "ada@example.com"}' if path == "/identify" else b'{"query": "{ __typename }"}'
    plain = await api.post(path, content=asked, headers=AS_JSON)
    assert plain.status_code == 200
    for encoding, packed in (("gzip", gzip.compress(asked)), ("deflate", zlib.compress(asked)), ("identity", asked)):
        response = await api.post(path, content=packed, headers={**AS_JSON, "Content-Encoding": encoding})
        assert (response.status_code, response.text) == (200, plain.text)
    for encoding, body, status, code in (
        ("br", asked, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("gzip", asked, 400, "BAD_REQUEST"),
        ("gzip", gzip.compress(b" " * 30_000_000), 413, "BODY_TOO_LARGE"),
    ):
        response = await api.post(path, content=body, headers={**AS_JSON, "Content-Encoding": encoding})
        told = response.json()
        assert (response.status_code, code) == (status, told.get("code") or told["errors"][0]["extensions"]["code"])


async def test_other_methods_and_paths(api: httpx2.AsyncClient) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        response = await api.request(method, "/identify")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert response.json()["code"] == "METHOD_NOT_ALLOWED"
    response = await api.get("/nowhere")
    assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND")
    assert response.headers["content-type"] == "application/problem+json"


async def test_problems_are_told_by_rfc_9457(api: httpx2.AsyncClient) -> None:
    response = await api.post(
        "/identify", json={"email": "nobody"}, headers={"X-Request-ID": "0f1e2d3c4b5a49788796a5b4c3d2e1f1"}
    )
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "urn:nexus-graph:problem:bad-user-input",
        "title": "Bad Request",
        "status": 400,
        "code": "BAD_USER_INPUT",
        "detail": "email must be text, one @ and a domain",
        "errors": [{"field": "email", "message": "email must be text, one @ and a domain"}],
        "correlationId": "0f1e2d3c4b5a49788796a5b4c3d2e1f1",
    }


async def test_every_answer_has_its_id_and_safe_headers(api: httpx2.AsyncClient) -> None:
    for path in ("/identify", "/graphql", "/health", "/livez", "/readyz", "/metrics", "/nowhere"):
        response = await api.get(path)
        assert UUID(response.headers["x-request-id"]).version == 4
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["permissions-policy"] == "camera=(), geolocation=(), microphone=()"


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_trace_of_the_caller_is_echoed_and_logged(
    api: httpx2.AsyncClient, pool: Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    for path, body in (("/identify", ADA), ("/graphql", {"query": "{ __typename }"}), ("/nowhere", {})):
        response = await api.post(path, json=body, headers={"traceparent": TRACE})
        assert response.headers["traceparent"] == TRACE
        assert "traceparent" not in (await api.post(path, json=body)).headers
    await pool.execute("DROP TABLE outbox CASCADE")
    await api.post("/identify", json={"email": "new@example.com"}, headers={"traceparent": TRACE})
    failed = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "request_failed" in line]
    assert [line["trace_id"] for line in failed] == [TRACE.split("-")[1]]


@pytest.mark.parametrize(
    "given",
    [
        "",
        "ada@example.com",
        "447900901003",
        TRACE.upper(),
        TRACE.replace("00-", "ff-", 1),
        TRACE + "-more",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
    ],
)
async def test_what_is_no_trace_is_ignored(api: httpx2.AsyncClient, given: str) -> None:
    response = await api.post("/identify", json=ADA, headers={"traceparent": given})
    assert (response.status_code, "traceparent" in response.headers) == (200, False)


async def test_the_requests_id_is_in_the_record(api: httpx2.AsyncClient, pool: Pool) -> None:
    given = "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0"
    response = await api.post("/identify", json=ADA, headers={"X-Request-ID": given})
    assert response.headers["x-request-id"] == given
    other = await api.post("/identify", json={"email": "bob@example.com"}, headers={"X-Request-ID": "not a safe id!"})
    assert other.headers["x-request-id"] != "not a safe id!"
    recorded = await pool.fetch("SELECT request_id FROM identity_events ORDER BY seq")
    assert [str(row[0]) for row in recorded] == [given, other.headers["x-request-id"]]


async def test_a_bad_request_harms_nobody_in_its_batch(api: httpx2.AsyncClient, pool: Pool) -> None:
    good = [{"email": f"user{number}@example.com", "phoneNumber": 100_000 + number} for number in range(40)]
    bad = [{"email": "ada\x00@example.com"}, {"email": "\u202e@example.com"}, {"phoneNumber": "12"}, {}]
    responses = await asyncio.gather(
        *(api.post("/identify", json=request) for pair in zip(good, bad * 10, strict=True) for request in pair)
    )
    assert [response.status_code for response in responses] == [200, 400] * 40
    assert await pool.fetchval("SELECT count(*) FROM contacts") == 40


async def test_requests_in_a_row_on_one_connection(server: ApiServer) -> None:
    """A refused body, read or not, leaves the connection fit for the next request."""
    too_large = b'{"email": "' + b"x" * 70_000 + b'"}'
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = "POST /identify HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(too_large)}\r\n\r\n".encode() + too_large)
    writer.write(f'{head}Connection: close\r\nContent-Length: 27\r\n\r\n{{"email":"ada@example.com"}}'.encode())
    answers = await reader.read()
    writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"413", b"200"]


async def test_a_header_block_has_a_limit(api: httpx2.AsyncClient) -> None:
    many = {f"X-{number}": "x" for number in range(120)}
    for headers in (many, {"X-Long": "x" * 20_000}):
        response = await api.post("/identify", json=ADA, headers=headers)
        assert (response.status_code, response.json()["code"]) == (431, "HEADERS_TOO_LARGE")


async def test_the_unexpected_is_masked(
    api: httpx2.AsyncClient, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    """An answer of the record that this release cannot read: it names an outcome nobody knows."""
    await pool.execute(UNKNOWN_OUTCOME)
    response = await api.post("/identify", json=ADA)
    assert response.status_code == 500
    told = response.json()
    assert (told["code"], told["detail"]) == ("INTERNAL", "Internal error")
    assert told["correlationId"] == response.headers["x-request-id"]
    logged = "".join(capsys.readouterr())
    assert told["correlationId"] in logged
    assert "ValueError" in logged
    assert "ada@" not in logged + response.text
