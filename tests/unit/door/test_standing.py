"""What an answer says of a limit."""

import json

from nexus_graph.api.http.answer import graphql_error, headers_of, problem
from nexus_graph.door.standing import UNLIMITED, Standing, refusal

STANDING = Standing(limit=100, remaining=7, reset_seconds=12, window_seconds=60, policy="default")


def test_headers_say_the_policy_and_what_is_left() -> None:
    assert STANDING.headers() == [
        (b"ratelimit-policy", b'"default";q=100;w=60'),
        (b"ratelimit", b'"default";r=7;t=12'),
    ]
    assert UNLIMITED.headers() == []


def test_a_refusal_says_when_to_come_back() -> None:
    error = refusal(STANDING)
    assert headers_of(error) == [(b"retry-after", b"12"), *STANDING.headers()]
    told = json.loads(problem(error, "id"))
    assert (told["status"], told["code"]) == (429, "RATE_LIMITED")
    assert told["detail"] == "Too many calls: 100 in 60 s are allowed"
    assert graphql_error(error, "id")["extensions"] == {
        "code": "RATE_LIMITED",
        "limit": 100,
        "remaining": 7,
        "windowSeconds": 60,
        "retryAfterSeconds": 12,
    }
