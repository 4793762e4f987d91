"""How the client of an Accept header is answered."""

import pytest

from nexus_graph.api.graphql.transport.negotiation import accepted

RESPONSE = b"application/graphql-response+json"
JSON = b"application/json"
URQL = RESPONSE + b", application/graphql+json, application/json, text/event-stream, multipart/mixed"
"""What urql and gql.tada send with every request."""
APOLLO_SUBSCRIBES = (
    b'multipart/mixed;boundary="graphql";subscriptionSpec="1.0",application/graphql-response+json,'
    b"application/json;q=0.9"
)
BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        (b"", JSON),
        (b"*/*", JSON),
        (b"application/*", JSON),
        (RESPONSE, RESPONSE),
        (JSON, JSON),
        (b"application/json; charset=utf-8", JSON),
        (b"Application/JSON", JSON),
        (b"application/json, application/graphql-response+json", RESPONSE),
        (b"application/graphql-response+json;q=0.5, application/json;q=0.9", JSON),
        (b"application/graphql-response+json;q=0.5, application/json;Q=0.9", JSON),
        (b"application/graphql-response+json; q=0.5 , application/json ; q=1.000", JSON),
        (b"application/json;q=0.9, */*;q=0.1", JSON),
        (b"application/graphql-response+json;q=0, */*", JSON),
        (b"application/json;q=0, */*", RESPONSE),
        (b"application/graphql-response+json, */*", RESPONSE),
        (b"text/html, */*;q=0.8", JSON),
        (b'multipart/mixed;boundary="a,application/xml", application/json', JSON),
        (b'application/json;profile=";q=0"', JSON),
        (b"application/json;q=0.1, application/json;charset=utf-8", JSON),
        (URQL, RESPONSE),
        (APOLLO_SUBSCRIBES, RESPONSE),
        (b"text/html", None),
        (b"text/event-stream", None),
        (b"application/xml;q=0.9, text/plain", None),
        (b"*/*;q=0", None),
        (b"application/json;q=nonsense", None),
        (b"application/json;q=nan", None),
        (b"application/json;q=2", None),
        (b",,;;", None),
        (b'"', None),
    ],
)
def test_the_best_that_is_served(accept: bytes | None, chosen: bytes | None) -> None:
    assert accepted(accept).media_type == chosen


@pytest.mark.parametrize(
    ("accept", "stream", "stream_only"),
    [
        (None, False, False),
        (b"*/*", False, False),
        (JSON, False, False),
        (URQL, True, False),
        (APOLLO_SUBSCRIBES, False, False),
        (b"text/event-stream", True, True),
        (b"TEXT/Event-Stream; charset=utf-8", True, True),
        (b"text/*", True, True),
        (b"text/event-stream, */*", True, False),
        (b"text/event-stream, application/json", True, False),
        (b"application/json;q=1, text/event-stream;q=0.1", True, False),
        (b"application/json;q=0.1, text/event-stream", True, True),
        (b"text/event-stream, application/json;q=0", True, True),
        (b"application/json, text/event-stream;q=0", False, False),
        (b"text/event-stream;q=0", False, False),
        (b"text/event-stream;q=0, text/*", False, False),
        (b"text/event-streams", False, False),
        (b'application/json;note="text/event-stream"', False, False),
    ],
)
def test_a_stream_is_for_those_who_name_it(accept: bytes | None, stream: bool, stream_only: bool) -> None:  # noqa: FBT001
    found = accepted(accept)
    assert (found.stream, found.stream_only) == (stream, stream_only)


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        (b"text/html", True),
        (b"text/html;q=0.5, */*;q=0.1", True),
        (b"application/json, text/html;q=0.5", False),
        (b"text/html;q=0", False),
        (b"*/*", False),
        (None, False),
    ],
)
def test_a_page_is_for_browsers(accept: bytes | None, page: bool) -> None:  # noqa: FBT001
    assert accepted(accept).page is page
