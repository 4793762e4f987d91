"""Global ids and cursors: they come back as they went out, and nothing else gets in."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_graph.api import cursors
from nexus_graph.errors import InvalidArgument
from nexus_graph.model import Contact

START = datetime(2026, 9, 1, 12, tzinfo=UTC)
LARGEST = 2**63 - 1


def contact(id_: int, *, microseconds: int = 0) -> Contact:
    return Contact(id_, "a@b.c", None, START + timedelta(microseconds=microseconds))


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


@given(st.sampled_from([cursors.CONTACT, cursors.FAMILY]), st.integers(1, LARGEST))
def test_a_global_id_comes_back(type_name: str, database_id: int) -> None:
    text = cursors.encode_id(type_name, database_id)
    assert cursors.decode_id(text, field="id") == (type_name, database_id)
    assert cursors.contact_id(text, field="id") == database_id


def test_a_raw_database_id_is_a_contacts_id() -> None:
    assert cursors.contact_id("17", field="contactId") == 17
    assert cursors.contact_id(str(LARGEST), field="contactId") == LARGEST


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "0",
        "-1",
        "1.5",
        "٣",
        "017",
        str(LARGEST + 1),
        "9" * 5_000,
        "not base64",
        "Q29udGFjdDox\n",
        encoded("Contact"),
        encoded("Contact:"),
        encoded("Contact:0"),
        encoded("Contact:-1"),
        encoded("Contact:1:2"),
        encoded(f"Contact:{LARGEST + 1}"),
        encoded("Person:1"),
        encoded("contact:1"),
        encoded("Contact:" + "1" * 200),
        b64encode(b"Contact:\xff").decode(),
        "\ud800",
    ],
    ids=ascii,
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        cursors.contact_id(text, field="contactId")
    assert caught.value.field == "contactId"
    with pytest.raises(InvalidArgument):
        cursors.decode_id(text, field="id")


def test_a_cursor_says_how_far_a_reader_came() -> None:
    contacts = [contact(3), contact(5), contact(4, microseconds=1), contact(9, microseconds=7)]
    assert [cursors.after(contacts, cursors.encode_cursor(one)) for one in contacts] == [1, 2, 3, 4]


def test_a_cursor_outlives_its_contact() -> None:
    gone = cursors.encode_cursor(contact(4))
    assert cursors.after([contact(3), contact(5)], gone) == 1
    assert cursors.after([], gone) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), unique_by=lambda place: place[1]))
def test_reading_on_from_any_cursor_misses_and_repeats_nothing(places: list[tuple[int, int]]) -> None:
    contacts = [contact(id_, microseconds=at) for at, id_ in sorted(places)]
    for index, one in enumerate(contacts):
        assert cursors.after(contacts, cursors.encode_cursor(one)) == index + 1


@pytest.mark.parametrize(
    "cursor",
    ["", "x", encoded("at"), encoded("at:1"), encoded("at:1."), encoded("at:x.1"), encoded("at:1.0"), encoded("on:1.1"),
     encoded("at:" + "1" * 60 + ".1"), encoded("at:-1.1"), cursors.encode_id(cursors.CONTACT, 1)],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        cursors.after([contact(1)], cursor)
    assert caught.value.field == "after"
