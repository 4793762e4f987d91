"""The chain without a database: what a hash covers, and the file that keeps a head."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from nexus_graph.door.audit_chain import (
    FINDINGS_MAX,
    Fault,
    Head,
    Report,
    StoredEntry,
    canonical,
    keep_head,
    linked,
    read_head,
)

NUMBERS = st.integers(-(2**63), 2**63 - 1)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - as Hypothesis asks
WORDS = st.text("ab-", max_size=3)
ENTRIES = st.builds(
    StoredEntry,
    NUMBERS,
    MOMENTS,
    MOMENTS,
    WORDS,
    WORDS,
    WORDS,
    st.none() | WORDS,
    st.none() | st.uuids(),
    st.lists(NUMBERS, max_size=3),
    st.none() | NUMBERS,
    st.just(b""),
)
PAIRS = st.tuples(ENTRIES, ENTRIES) | ENTRIES.flatmap(
    # Neighbours: the same but for the words, whose border may move.
    lambda entry: st.tuples(
        st.just(entry),
        st.builds(lambda who, what, outcome: entry._replace(who=who, what=what, outcome=outcome), WORDS, WORDS, WORDS),
    )
)


def _collide(bytes_of: Callable[[StoredEntry], bytes], pair: tuple[StoredEntry, StoredEntry]) -> bool:
    first, second = pair
    return first != second and bytes_of(first) == bytes_of(second)


@given(PAIRS)
@settings(max_examples=1_000)
def test_two_entries_never_have_equal_bytes(pair: tuple[StoredEntry, StoredEntry]) -> None:
    assert not _collide(canonical, pair)


def test_bytes_without_lengths_are_convicted() -> None:
    """A planted bug: fields one after another, with nothing that says where each ends."""

    def joined(entry: StoredEntry) -> bytes:
        return "".join(str(value) for value in entry).encode()

    first, second = find(PAIRS, lambda pair: _collide(joined, pair))
    assert first != second
    with pytest.raises(NoSuchExample):
        find(PAIRS, lambda pair: _collide(canonical, pair), settings=settings(max_examples=200))


def test_a_microsecond_is_covered() -> None:
    moment = datetime(2026, 11, 27, 12, 0, 0, 123_456, tzinfo=UTC)
    entry = StoredEntry(1, moment, moment, "system", "identify", "changed", None, None, [7], None, b"")
    later = entry._replace(at=moment.replace(microsecond=123_457))
    assert linked(b"\0" * 32, entry) != linked(b"\0" * 32, later)


def test_a_fault_that_goes_on_is_one_finding_and_the_number_of_findings_is_bounded() -> None:
    report = Report(Head(0, b""))
    for seq in range(1, 6):
        report.add(Fault.CHANGED, seq)
    assert [(finding.first, finding.last) for finding in report.findings] == [(1, 5)]
    for seq in range(10, 10 + 4 * FINDINGS_MAX, 2):
        report.add(Fault.CHANGED, seq)
    assert len(report.findings) == FINDINGS_MAX
    assert report.faults == 1 + 2 * FINDINGS_MAX
    assert report.lines()[FINDINGS_MAX] == f"and {FINDINGS_MAX + 1} more"


def _head(seq: int) -> Head:
    return Head(seq, sha256(str(seq).encode()).digest())


def test_a_head_file_only_grows_whoever_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "head"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda seq: keep_head(path, _head(seq)), [seq * 37 % 101 for seq in range(101)]))
    assert read_head(path) == _head(100)
    assert {file.name for file in tmp_path.iterdir()} == {"head", "head.lock"}


@pytest.mark.parametrize("text", ["", "12", "12 abc", f"x {'0' * 64}", f"-1 {'0' * 64}", f"1 {'0' * 64}\n2", "\udcff"])
def test_a_file_without_a_head_holds_none_and_is_written_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "head"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert read_head(path) is None
    keep_head(path, _head(3))
    assert read_head(path) == _head(3)


def test_a_metric_shows_the_digest_exactly() -> None:
    head = Head(1, b"\xff" * 32)
    assert int(float(head.digest)) == head.digest == 2**48 - 1
