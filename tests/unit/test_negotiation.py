"""Which media type an answer has."""

import pytest

from nexus_graph.api.graphql.negotiation import media_type

RESPONSE = b"application/graphql-response+json"
JSON = b"application/json"


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
        (b"application/json;q=0.9, */*;q=0.1", JSON),
        (b"application/graphql-response+json;q=0, */*", JSON),
        (b"application/json;q=0, */*", RESPONSE),
        (b"application/graphql-response+json, */*", RESPONSE),
        (b"text/html, */*;q=0.8", JSON),
        (b"text/html", None),
        (b"application/xml;q=0.9, text/plain", None),
        (b"*/*;q=0", None),
        (b"application/json;q=nonsense", None),
        (b",,;;", None),
    ],
)
def test_the_best_that_is_served(accept: bytes | None, chosen: bytes | None) -> None:
    assert media_type(accept) == chosen
