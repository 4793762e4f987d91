"""Canonical forms: exact values, exact refusals, idempotence, speed."""

from contextlib import suppress
from uuid import UUID

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus_graph.errors import IdentifierMissing, InvalidIdentifier
from nexus_graph.identifiers import normalize, phone_number
from nexus_graph.model import IdentifyRequest
from tests.stage.counting import lines_run

REQUEST = UUID("7b0c2f4e-6d51-4a8e-9e33-0b8f5f8d2a10")

# Any text, lone surrogates included.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
EMAIL_LIKE = st.builds(lambda local, domain: f"{local}@{domain}", ANY_TEXT, ANY_TEXT)
PHONE_LIKE = st.text(st.sampled_from("+0123456789 -.()/\u0663\uff17\u0966x\u200e"), max_size=25)


def _short(value: object) -> str:
    return ascii(value)[:32]


@pytest.mark.parametrize(
    ("given_email", "canonical"),
    [
        ("ada@example.com", "ada@example.com"),
        ("  Ada.Lovelace+news@Example.COM\t\n", "ada.lovelace+news@example.com"),
        ("a@b", "a@b"),
        ("o'brien!#$%@example.com", "o'brien!#$%@example.com"),
        ("\u00a0ada@example.com\u3000", "ada@example.com"),
        ("\u212aada@example.com", "kada@example.com"),
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
        ("x@" + "d" * 63 + ".example", "x@" + "d" * 63 + ".example"),
        ("a.@example.com", "a.@example.com"),
        ("a..b@example.com", "a..b@example.com"),
        ("a%2B18@example.com", "a%2b18@example.com"),
        ("", None),
        (" \t\r\n", None),
    ],
    ids=_short,
)
def test_emails_have_one_form(given_email: str, canonical: str | None) -> None:
    assert normalize.email(given_email) == canonical


@pytest.mark.parametrize(
    ("refused", "because"),
    [
        ("ada", "must be text, one @ and a domain"),
        ("@example.com", "must be text, one @ and a domain"),
        ("ada@", "must be text, one @ and a domain"),
        ("ada@@example.com", "must be text, one @ and a domain"),
        ("ada@home@example.com", "must be text, one @ and a domain"),
        ("ada lovelace@example.com", "must not contain spaces"),
        ("ada@example .com", "must not contain spaces"),
        ("ada\x00@example.com", "must not contain spaces, control characters"),
        ("ada@example.com\x00", "must not contain spaces, control characters"),
        ("\x1fada@example.com", "must not contain spaces, control characters"),
        ("ada\u0085@example.com", "must not contain spaces, control characters"),
        ("ada\u200b@example.com", "invisible characters"),
        ("ada\u200d@example.com", "invisible characters"),
        ("ada\ufeff@example.com", "invisible characters"),
        ("ada\u00ad@example.com", "invisible characters"),
        ("ada\u3164@example.com", "invisible characters"),
        ("ada\ufe0f@example.com", "invisible characters"),
        ("ada\ud800@example.com", "invisible characters"),
        ("x" * 65 + "@example.com", "is too long: more than 64 octets before the @"),
        ("é" * 33 + "@example.com", "is too long: more than 64 octets before the @"),
        ("x@" + ".".join(["d" * 60] * 5), "is too long: more than 254 octets"),
        ("x" * 100_000, "is too long"),
        ("ada@example..com", "must have a domain"),
        ("ada@example,com", "must have a domain"),
        ("ada@example.com/", "must have a domain"),
        ("ada@-example.com", "must have a domain"),
        ("ada@example-.com", "must have a domain"),
        ("ada@exam_ple.com", "must have a domain"),
        ("ada@" + "d" * 64 + ".com", "must have a domain"),
        ("ada@[127.0.0.1]", "must have a domain"),
        (".ada@example.com", "no dot first"),
        ("josé@example.es", "may only have letters a to z"),
        ("\u0130nfo@example.com", "may only have letters a to z"),
        ("\u0131nfo@example.com", "may only have letters a to z"),
        ("Ada<ada@example.com>", "may only have letters a to z"),
        ("o&#39;brien@example.com", "may only have letters a to z"),
        ('"ada lovelace"@example.com', "must not contain spaces"),
        ("ada@xn--a.example", "no internationalised domain name"),
        ("ada@xn--.example", "no internationalised domain name"),
        ("ada@xn--abc.example", "no internationalised domain name"),
        ("ada@a\u200cb.example", "no internationalised domain name"),
        ("ada@" + "ü" * 60 + ".example", "must have a domain"),
        ("<>", "must be text, one @ and a domain"),
        (5, "must be a string"),
        (True, "must be a string"),
        (["ada@example.com"], "must be a string"),
        ({}, "must be a string"),
    ],
    ids=_short,
)
def test_bad_emails_are_refused_by_rule(refused: object, because: str) -> None:
    with pytest.raises(InvalidIdentifier) as caught:
        normalize.email(refused)
    assert caught.value.field == "email"
    assert caught.value.message.startswith("email ")
    assert because in caught.value.message


@pytest.mark.parametrize(
    ("given_phone", "canonical"),
    [
        ("123456", "123456"),
        (123456, "123456"),
        ("  12-34 56 ", "123456"),
        ("(030) 123/45.67", "0301234567"),
        ("0049 30 1234567", "0049301234567"),
        ("+1 415 555 2671", "+14155552671"),
        ("+44 (0)20 7946 0958", "+442079460958"),
        ("(+44) 20 7946 0958", "+442079460958"),
        ("+54 11 15 2345-6703", "+5491123456703"),
        ("+54 9 11 2345-6702", "+5491123456702"),
        ("+54 11 2345-6702", "+541123456702"),
        ("+39 06 1234567", "+39061234567"),
        ("+91 98765 43210", "+919876543210"),
        ("91 98765 43210", "919876543210"),
        ("\uff0b49\u00a030\u20131234567", "+49301234567"),
        ("١٢٣٤٥٦", "123456"),
        ("\uff11\uff12\uff13\uff14\uff15\uff16", "123456"),
        ("123", "123"),
        ("1" * 20, "1" * 20),
        (10**19, "1" + "0" * 19),
        ("", None),
        (" \u00a0\t", None),
    ],
    ids=_short,
)
def test_phones_have_one_form(given_phone: object, canonical: str | None) -> None:
    assert normalize.phone(given_phone, None) == canonical


@pytest.mark.parametrize(
    ("given_phone", "region", "canonical"),
    [
        ("030 1234567", "DE", "+49301234567"),
        ("(415) 555-2671", "US", "+14155552671"),
        (4155552671, "US", "+14155552671"),
        ("00 49 30 1234567", "DE", "+49301234567"),
        ("+44 20 7946 0958", "DE", "+442079460958"),
        ("12345", "US", "12345"),
        ("06 1234567", "IT", "+39061234567"),
    ],
    ids=_short,
)
def test_a_region_makes_local_numbers_international(given_phone: object, region: str, canonical: str) -> None:
    assert normalize.phone(given_phone, region) == canonical


@pytest.mark.parametrize(
    ("refused", "because"),
    [
        ("12", "must have 3 to 20 digits"),
        ("1" * 21, "must have 3 to 20 digits"),
        ("---", "must have 3 to 20 digits"),
        ("+", "no such number is possible"),
        ("+999", "no such number is possible"),
        ("+1 415", "no such number is possible"),
        ("555-CALL", "may only contain digits"),
        ("123456#", "may only contain digits"),
        ("12+3456", "may only contain digits"),
        ("++123456", "may only contain digits"),
        ("²³⁴⁵", "may only contain digits"),
        ("123\x00456", "must not contain control characters"),
        ("123\ud800456", "invisible characters"),
        ("1 " * 60_000, "is too long"),
        (12, "must have 3 to 20 digits"),
        (0, "must be a positive number"),
        (-123456, "must be a positive number"),
        (10**20, "must be a positive number"),
        (True, "must be a string or an integer"),
        (1.5, "must not be a decimal number"),
        (1e22, "digits are gone"),
        (float("nan"), "may only contain digits"),
        (["123456"], "must be a string or an integer"),
    ],
    ids=_short,
)
def test_bad_phones_are_refused_by_rule(refused: object, because: str) -> None:
    with pytest.raises(InvalidIdentifier) as caught:
        normalize.phone(refused, None)
    assert caught.value.field == "phoneNumber"
    assert caught.value.message.startswith("phoneNumber ")
    assert because in caught.value.message


def test_an_integer_of_any_length_is_judged() -> None:
    with pytest.raises(InvalidIdentifier, match="must be a positive number"):
        normalize.phone(10**5_000, None)


def test_a_request_keeps_its_id_and_what_is_present() -> None:
    def request(email: object, phone: object) -> IdentifyRequest:
        return normalize.identify_request(email, phone, region=None, request_id=REQUEST)

    assert request("Ada@Example.com", None) == IdentifyRequest("ada@example.com", None, REQUEST)
    assert request("", 123456) == IdentifyRequest(None, "123456", REQUEST)
    assert request("a@b.c", " ") == IdentifyRequest("a@b.c", None, REQUEST)


@pytest.mark.parametrize("email", [None, "", "  "])
@pytest.mark.parametrize("phone", [None, "", "\t"])
def test_a_request_names_somebody(email: object, phone: object) -> None:
    with pytest.raises(IdentifierMissing) as caught:
        normalize.identify_request(email, phone, region=None, request_id=None)
    assert caught.value.fields == ("email", "phoneNumber")
    assert "email" in caught.value.message
    assert "phoneNumber" in caught.value.message


@given(ANY_TEXT | EMAIL_LIKE)
@example("\u1e9e@ß")
@example("\u0130@i\u0307")
@example("ΑΣ@ΑΣ")
@settings(max_examples=500, deadline=None)
def test_email_is_idempotent_and_safe_to_store(text: str) -> None:
    canonical = None
    with suppress(InvalidIdentifier):
        canonical = normalize.email(text)
    if canonical is not None:
        assert normalize.email(canonical) == canonical
        assert len(canonical.encode()) <= 254
        assert "\x00" not in canonical


@given(PHONE_LIKE | ANY_TEXT | st.integers(), st.sampled_from([None, "DE", "US", "IT", "AR", "CI"]))
@settings(max_examples=1_000, deadline=None)
def test_phone_is_idempotent_and_fits(value: object, region: str | None) -> None:
    canonical = None
    with suppress(InvalidIdentifier):
        canonical = normalize.phone(value, region)
    if canonical is not None:
        assert normalize.phone(canonical, region) == canonical
        assert 3 <= len(canonical) <= 20
        assert canonical.isascii()


@given(
    EMAIL_LIKE | ANY_TEXT | PHONE_LIKE | st.integers() | st.booleans() | st.floats() | st.none() | st.binary(),
    EMAIL_LIKE | ANY_TEXT | PHONE_LIKE | st.integers() | st.booleans() | st.floats() | st.none() | st.binary(),
)
@settings(deadline=None)
def test_refusals_never_repeat_the_value(email: object, phone: object) -> None:
    try:
        normalize.identify_request(email, phone, region=None, request_id=None)
    except InvalidIdentifier as error:
        rules = error.message
        for value in (email, phone):
            if isinstance(value, str) and len(value) > 12:
                assert value not in rules


def test_a_typical_email_costs_next_to_nothing() -> None:
    """No step of the long way: no look for pasted marks, no IDNA."""
    assert lines_run(lambda: normalize.email("Ada.Lovelace+news@example.com")) < 10


@settings(max_examples=5_000, deadline=None)  # the first number of a country reads its tables
@given(
    code=st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)), national=st.text("0123456789", max_size=16)
)
@example(code=39, national="0612345678")  # Italy keeps its zero
@example(code=44, national="07700900123")
@example(code=52, national="15512345678")
@example(code=54, national="91112345678")
@example(code=1, national="12025550123")
def test_the_short_way_ends_where_the_long_way_does(code: int, national: str) -> None:
    number = f"+{code}{national}"
    if phone_number._is_plainly_e164(number):
        assert phone_number._e164(number, None) == number


@settings(deadline=None)
@given(digits=st.text("0123456789", max_size=20))
def test_the_short_way_takes_any_digits(digits: str) -> None:
    if phone_number._is_plainly_e164(f"+{digits}"):
        assert phone_number._e164(f"+{digits}", None) == f"+{digits}"
