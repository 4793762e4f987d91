"""Masks: what a reader without the right to see identifiers learns of them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_graph.door.masking import masked_email, masked_family, masked_phone
from nexus_graph.model import Contact, Family

MADE = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("email", "mask"),
    [
        ("lorraine@hillvalley.edu", "l***@h***.edu"),
        ("a@b.co", "a***@b***.co"),
        ("first.last+tag@mail.example.co.uk", "f***@m***.uk"),
        ("root@localhost", "r***@l***"),
    ],
)
def test_an_email_shows_two_letters_and_the_last_label(email: str, mask: str) -> None:
    assert masked_email(email) == mask


@pytest.mark.parametrize(
    ("phone", "mask"),
    [
        ("+447900900461", "+44******0461"),
        ("+12025550143", "+1******0143"),
        ("+3725123456", "+3*****3456"),
        ("123456", "***456"),
        ("7", "*"),
    ],
)
def test_a_phone_shows_its_length_its_country_and_four_digits(phone: str, mask: str) -> None:
    assert masked_phone(phone) == mask


@given(st.from_regex(r"\A\+?[1-9][0-9]{0,14}\Z"))
def test_at_least_half_of_the_digits_are_hidden(phone: str) -> None:
    mask = masked_phone(phone)
    digits = len(phone.removeprefix("+"))
    assert len(mask) == len(phone)
    assert mask.count("*") * 2 >= digits
    assert masked_phone(phone) == mask


def test_a_masked_family_has_as_many_identifiers_as_the_family() -> None:
    contacts = (Contact(1, "anna@x.example", "123456", MADE), Contact(2, "adam@x.example", "123456", MADE))
    family = masked_family(Family(7, contacts))
    assert family.emails == ("a***@x***.example", "a***@x***.example")
    assert family.phones == ("***456",)
    assert (family.id, family.version, family.ids) == (1, 7, frozenset({1, 2}))
    assert "anna" not in repr(family)
