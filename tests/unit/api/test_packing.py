"""Answers in fewer bytes: for those who take them, and never where their length could tell a secret."""

import gzip

import pytest

from nexus_graph.api.http import packing
from nexus_graph.api.http.answer import JSON, PROBLEM, Answer
from nexus_graph.api.http.packing import packed, takes
from nexus_graph.api.http.request import OTHER_SITES

LONG = b'{"contact":"' + b"ada@example.com" * 10_000 + b'"}'
GZIP = {b"accept-encoding": b"gzip, deflate, br"}


@pytest.mark.parametrize(
    ("accepted", "is_taken"),
    [
        (None, False),
        (b"", False),
        (b"gzip", True),
        (b"GZIP;q=1.0", True),
        (b"br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        (b"*", True),
        (b"*;q=0", False),
        (b"*;q=1, gzip;q=0", False),
        (b"gzip;q=0", False),
        (b"gzip ; q=0.001", True),
        (b"gzipped", False),
        (b"gzip;q=2", False),
        (b"gzip;q=x", False),
        (b"identity, br", False),
        (b",".join([b"a"] * 5_000) + b",gzip", False),
    ],
)
def test_weights_say_whether_a_coding_is_taken(accepted: bytes | None, *, is_taken: bool) -> None:
    assert takes(accepted, b"gzip") is is_taken


@pytest.mark.parametrize("body", [LONG, LONG[:4_000]], ids=["beside the loop", "at once"])
async def test_a_long_answer_is_packed(body: bytes) -> None:
    answer = await packed(Answer(200, body, JSON, ((b"etag", b'"1"'),)), GZIP)
    assert gzip.decompress(answer.body) == body
    assert len(answer.body) < len(body) / 10
    assert answer.headers == ((b"etag", b'W/"1"'), (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))


async def test_a_cache_is_told_that_a_plain_answer_varies_too() -> None:
    answer = await packed(Answer(200, LONG), {})
    assert (answer.body, answer.headers) == (LONG, ((b"vary", b"accept-encoding"),))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, LONG, PROBLEM),
        Answer(200, LONG, PROBLEM),
        Answer(200, LONG, b"application/zip"),
        Answer(200, LONG, b"text/javascript", ((b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))),
        Answer(200, LONG, b"text/javascript", ((b"vary", b"accept-encoding"),)),
    ],
)
async def test_what_is_not_to_be_packed_stays(answer: Answer) -> None:
    assert await packed(answer, GZIP) == answer


@pytest.mark.parametrize("site", OTHER_SITES)
async def test_pages_of_other_sites_learn_nothing_by_lengths(site: bytes) -> None:
    answer = Answer(200, LONG)
    assert await packed(answer, {**GZIP, b"sec-fetch-site": site}) == answer


async def test_the_first_coding_that_is_taken_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_PACKINGS", {b"zstd": lambda _: b"z", b"gzip": lambda _: b"g"})
    for accepted, coding, body in ((b"gzip, zstd", b"zstd", b"z"), (b"gzip, zstd;q=0", b"gzip", b"g")):
        answer = await packed(Answer(200, LONG), {b"accept-encoding": accepted})
        assert (dict(answer.headers)[b"content-encoding"], answer.body) == (coding, body)
