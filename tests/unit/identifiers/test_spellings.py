"""Pasted, exported and mistyped identifiers are read as the one that is meant, or refused: none is one of its own."""

from contextlib import suppress
from itertools import product
from typing import Any

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_graph.errors import InvalidIdentifier
from nexus_graph.identifiers import normalize, phone_number, renumbering
from nexus_graph.identifiers.normalize import Written

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
E164 = phonenumbers.PhoneNumberFormat.E164
LOCAL_ONLY = phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY
EXTENSION = (("phoneNumber", "extension"),)
LONGEST = 26


def _examples() -> list[str]:
    """A number of each kind of each region, as E.164."""
    numbers = [
        phonenumbers.example_number_for_type(region, kind)
        for region, kind in product(REGIONS, phonenumbers.PhoneNumberType.values())
    ]
    return sorted({phonenumbers.format_number(number, E164) for number in numbers if number is not None})


EXAMPLES = _examples()


def _region_of(number: str) -> str:
    return phonenumbers.region_code_for_number(phonenumbers.parse(number)) or "ZZ"


def _name(value: object) -> str:
    return ascii(value)[:LONGEST]


def _phone(value: object, region: str | None = None) -> str | None:
    """The canonical form; "refused" where it is."""
    try:
        return normalize.phone(value, region)
    except InvalidIdentifier:
        return "refused"


@pytest.mark.parametrize(
    "pasted",
    [
        "<ada@example.com>",
        "ada@example.com>",
        "ada@example.com.",
        "ada@example.com,",
        "ada@example.com;",
        "ada@example.com:",
        "ada@example.com. ",
        "'ada@example.com'",
        "'ada@example.com",
        '"ada@example.com"',
        '"ada"@example.com',
        "'ada'@example.com",
        "\u201cada@example.com\u201d",
        "\u2018ada@example.com\u2019",
        "\u201eada@example.com\u201c",
        "\u00abada@example.com\u00bb",
        "\u00ab\u00a0ada@example.com\u00a0\u00bb",
        "(ada@example.com)",
        "[ada@example.com]",
        "{ada@example.com}",
        "`ada@example.com`",
        "< ada@example.com >,",
        '="ada@example.com"',
        "mailto:ada@example.com",
        "<mailto:ada@example.com?subject=hello>",
        "MAILTO:%61da@example.com",
        "mailto://ada@example.com",
        "SMTP:ada@example.com",
        "\u200bada@example.com\u200b",
        "\ufeffada@example.com",
        "\u202aada@example.com\u202c",
        "ada@example.com\u00ad",
        "\uff41da@example.com",
        "ada\uff20example.com",
        "ada@example\uff0ecom",
        "ada@example\u3002com\u3002",
        "\uff1cada@example.com\uff1e",
    ],
    ids=_name,
)
def test_an_email_with_what_is_pasted_around_it_is_that_email(pasted: str) -> None:
    assert normalize.email(pasted) == "ada@example.com"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@BÜCHER.example", "ada@XN--BCHER-KVA.example"),
        ("ada@bu\u0308cher.example", "ada@bücher.example"),
        ("ada@faß.example", "ada@xn--fa-hia.example"),
        ("ada@\u0391\u03a3.example", "ada@\u03b1\u03c3.example"),
        ("ada@\U0001f600.example", "ada@xn--e28h.example"),
        ("ada@例え\u3002テスト", "ada@xn--r8jz45g.xn--zckzah"),
        ("ada@\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example", "ada@xn--mgba3gch31f060k.example"),
    ],
    ids=_name,
)
def test_both_spellings_of_a_domain_are_one(one: str, other: str) -> None:
    canonical = normalize.email(one)
    assert canonical is not None
    assert canonical.isascii()
    assert canonical == normalize.email(other) == normalize.email(canonical)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a@faß.example", "a@fass.example"), ("a@\u03c2.example", "a@\u03c3.example"), ("a@x.de", "a@x.d\u0435")],
)
def test_domains_that_only_look_alike_stay_apart(one: str, other: str) -> None:
    assert normalize.email(one) != normalize.email(other)


@pytest.mark.parametrize(
    "pasted",
    [
        "'+14155552671",
        '="+14155552671"',
        "\u202a+14155552671\u202c",
        "\u2066+1 415 555 2671\u2069",
        "+1\u00ad415\u200b5552671\ufe0d",
        "\u200e+1\u200e415\u200e5552671",
        "+14155552671.0",
        "+14155552671.",
        "<+14155552671>;",
        "\uff0b1\uff08415\uff095552671",
        "+1.4155552671",
        "tel:+1-415-555-2671",
        "TEL:%2B14155552671",
        "tel:415-555-2671;phone-context=+1",
        "callto://+14155552671",
        "sip:+14155552671@example.com",
        "whatsapp:+14155552671",
    ],
    ids=_name,
)
def test_a_phone_with_what_is_pasted_around_it_is_that_phone(pasted: str) -> None:
    assert phone_number.phone(pasted, None) == ("+14155552671", ())


@pytest.mark.parametrize(
    "ending",
    [
        " x12",
        "x12",
        " ext 12",
        " ext. 12",
        " extension 12",
        ";ext=12",
        " #12",
        "#12",
        ",12",
        ",,12#",
        " Durchwahl 12",
        " (ext. 12)",
        "w12",
        " \u0434\u043e\u0431. 12",
    ],
)
@pytest.mark.parametrize("number", ["+1 (415) 555-2671", "tel:+1-415-555-2671"])
def test_an_extension_is_dropped_and_said(number: str, ending: str) -> None:
    assert phone_number.phone(number + ending, None) == ("+14155552671", EXTENSION)
    request = normalize.identify_request(None, number + ending, region=None, request_id=None)
    assert request.dropped == EXTENSION


@pytest.mark.parametrize("hostile", [" -" * 500, "1" + "," * 900 + "1", "(ext " * 190 + "1", "1 x" * 300, "1/" * 500])
def test_a_text_whose_search_for_an_extension_would_take_long_is_refused_first(hostile: str) -> None:
    with pytest.raises(InvalidIdentifier, match="is too long"):
        normalize.phone(hostile, None)


def test_a_number_may_have_many_separators() -> None:
    assert phone_number.phone("+1 - (415)" + " " * 60 + "- 555 - 2671 - ext. 123", None) == ("+14155552671", EXTENSION)


def test_a_prefix_of_an_internationalised_address_is_one_of_its_canonical_form() -> None:
    assert normalize.email_prefix("Ada@BÜCHER.ex") == "ada@xn--bcher-kva.ex"
    assert normalize.email_prefix("ada@xn--bch") == "ada@xn--bch"
    assert normalize.email_prefix("ada@") == "ada@"
    with pytest.raises(InvalidIdentifier, match="emailPrefix"):
        normalize.email_prefix("ada@a\u200cbü")


def test_what_else_a_link_says_is_dropped_and_said() -> None:
    assert phone_number.phone("sms:+14155552671?body=hello", None) == ("+14155552671", (("phoneNumber", "parameters"),))


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("447900901001.0", "447900901001"),
        ("447900901001,0", "447900901001"),
        ("447900901001.00", "447900901001"),
        ("5551006.0", "5551006"),
        (447900900201.0, "447900900201"),
        (Written("447900900201.0"), "447900900201"),
        (Written("4.47901E+11"), "refused"),
        (Written("4.47900900201E+11"), "447900900201"),
        ("4,47900900201E+11", "447900900201"),
        ("4.47901E+11", "refused"),
        ("4,47901E+11", "refused"),
        ("447900901001.5", "refused"),
        ("447900901001.001", "refused"),
        ("12.5", "refused"),
        ("3.14159", "refused"),
        ("-73.9857", "refused"),
        (-447900900201.0, "refused"),
        ("447,900,901,001", "refused"),
    ],
    ids=_name,
)
def test_decimals_are_read_where_no_digit_is_lost(written: object, canonical: str) -> None:
    assert _phone(written) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "030 1234562/63",
        "030 1234562/63/64",
        "0301234525 - 0171234567",
        "0301234567/0171234567",
        "0301234567 / 0171 1234567",
        "0301234567 0171234567",
        "5551234 - 5551235",
        "5551234 5551235",
        "555-1234 555-1235",
        "555-1234/35",
        "0301234567\n0171234567",
        "0301234567, 0171234567",
        "0301234567 ::: 0171234567",
        "2026-11-26",
        "26/11/2026",
        "11/26/2026",
        "26.11.2026",
        "26.11.26",
        "2026/11/26",
        "26. 11. 2026",
        "2026-11",
        "11/2026",
        "192.168.0.1",
        "8.8.8.8",
        "0000000000",
        "000-000-0000",
        "12x34",
        "1920x1080",
        "sip:ada@example.com",
    ],
    ids=_name,
)
@pytest.mark.parametrize("region", [None, "DE", "US"])
def test_what_is_no_number_is_refused(text: str, region: str | None) -> None:
    assert _phone(text, region) == "refused"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("030/1234567", "0301234567"),
        ("0171 / 123 45 67", "01711234567"),
        ("01/23/45/67/89", "0123456789"),
        ("+49 33203/12345", "+493320312345"),
        ("0049 33203/12345", "00493320312345"),
        ("+49 (0) 171 / 1234567", "+491711234567"),
        ("030 - 1234567", "0301234567"),
        ("030 1234525-27", "030123452527"),
        ("0049171 1234567", "00491711234567"),
        ("12.34.56.78", "12345678"),
        ("0171.1234567", "01711234567"),
    ],
)
def test_separators_of_one_number_do_not_make_two(text: str, canonical: str) -> None:
    assert _phone(text) == canonical


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("+52 1 55 1234 5601", "+525512345601"),
        ("+5204455 1234 5601", "+525512345601"),
        ("+229 97 12 34 56", "+2290197123456"),
        ("+225 07 12 34 56", "+2250707123456"),
        ("+225 54 12 34 56", "+2250554123456"),
        ("+225 02 12 34 56", "+2250102123456"),
        ("+225 20 21 23 45", "+2252720212345"),
        ("+225 20 01 23 45", "+2252520012345"),
        ("+225 20 81 23 45", "+2252120812345"),
        ("+55 11 8765 4321", "+5511987654321"),
        ("+57 1 2345678", "+576012345678"),
        ("+84 120 123 4567", "+84701234567"),
        ("+84 169 123 4567", "+84391234567"),
        ("+241 07 12 34 56", "+24177123456"),
        ("+241 6 12 34 56", "+24166123456"),
    ],
)
def test_an_old_number_is_the_one_it_became(old: str, today: str) -> None:
    assert _phone(old) == today == _phone(today)
    assert phonenumbers.is_valid_number(phonenumbers.parse(today))
    region = _region_of(today)
    assert _phone(old, region) == today
    assert _phone(old.removeprefix("+"), region) == today


def test_no_number_of_today_is_taken_for_an_old_one() -> None:
    for number in EXAMPLES:
        if phonenumbers.is_valid_number(phonenumbers.parse(number)):
            assert renumbering.renumbered(number) == number or number[:4] in {"+229", "+241"}, number


def test_a_number_without_its_plus_is_never_given_its_country_twice() -> None:
    for number in EXAMPLES:
        region = _region_of(number)
        if region != "ZZ":
            international = _phone(number, region)
            wanted = number[1:] if international == "refused" else international
            for spelled in (number[1:], int(number[1:]), f" {number[1:4]} {number[4:]}"):
                assert _phone(spelled, region) == wanted, (spelled, region)


def test_no_region_makes_a_number_of_a_local_one() -> None:
    for region in REGIONS:
        metadata: Any = phonenumbers.PhoneMetadata.metadata_for_region(region)
        for length in metadata.general_desc.possible_length_local_only:
            for digits in ("2345678901234"[:length], "5550123555012"[:length], "9876543210987"[:length]):
                number = phonenumbers.parse(digits, region)
                if phonenumbers.is_possible_number_with_reason(number) == LOCAL_ONLY:
                    assert _phone(digits, region) in (digits, "refused")
                    international = phonenumbers.format_number(number, E164)
                    assert _phone(international, region) == "refused", international


# Spellings of one number: none of them may change whose it is.
_ENDS = st.sampled_from(["", " ", "\u00a0", "'", '"', "<", "\u202a", "\u200e", "(", "\u201c", "\ufeff", "tel:"])
_TAILS = st.sampled_from(["", " ", ".", ",", ";", ">", '"', "\u202c", "\u201d", " ext 12", ";ext=12"])
_BETWEEN = st.sampled_from(["", "", "", " ", "-", ".", "\u00a0", "\u2011", "\u200b"])


@st.composite
def _spelled(draw: st.DrawFn) -> tuple[str, str]:
    """A number that somebody has, and one of its spellings."""
    number = draw(st.sampled_from(EXAMPLES))
    cut, other_cut = draw(st.integers(2, 5)), draw(st.integers(5, 9))
    spelled = draw(_BETWEEN).join([number[:cut], number[cut:other_cut], number[other_cut:]])
    return number, f"{draw(_ENDS)}{spelled}{draw(_TAILS)}"


@given(_spelled(), _spelled(), st.sampled_from([None, *REGIONS]))
@settings(max_examples=500, deadline=None)
def test_no_two_peoples_numbers_meet(one: tuple[str, str], other: tuple[str, str], region: str | None) -> None:
    (first, first_spelling), (second, second_spelling) = one, other
    forms = [_phone(first_spelling, region), _phone(second_spelling, region)]
    if "refused" not in forms and renumbering.renumbered(first) != renumbering.renumbered(second):
        assert forms[0] != forms[1]
    for number, form in zip((first, second), forms, strict=True):
        assert form in ("refused", _phone(number))


_ANY_PHONE = st.text(st.sampled_from("+0123456789 -.()/,;x#=\u0663\uff17'\"<>\u200e\u202a"), max_size=24)


@given(_ANY_PHONE | st.integers(0, 10**16) | st.floats(), st.sampled_from([None, *REGIONS]))
@settings(max_examples=1_000, deadline=None)
def test_normalising_a_phone_twice_changes_nothing(value: object, region: str | None) -> None:
    canonical = _phone(value, region)
    if canonical not in (None, "refused"):
        assert phone_number.phone(canonical, region) == (canonical, ())
        # A number with a + is the same in every region.
        if canonical.startswith("+"):
            assert normalize.phone(canonical, None) == canonical


_LABEL = st.text(st.sampled_from("abüßς\u03c3Σİ\u212a\u200c\u0644\u05d0٣\U0001f600-xn"), max_size=6)
_DOMAIN = st.lists(_LABEL, min_size=1, max_size=3).map(".".join) | st.text(max_size=12).map(
    lambda text: f"xn--{text}.example"
)
_LOCAL = st.text(st.sampled_from("aA.+'\"`{\u212a\uff41\u0130%4=:<(\u200b"), max_size=8)


@given(_ENDS, _LOCAL, st.sampled_from(["@", "\uff20"]), _DOMAIN, _TAILS)
@settings(max_examples=600, deadline=None)
def test_normalising_an_email_twice_changes_nothing(before: str, local: str, at: str, domain: str, after: str) -> None:
    canonical = None
    with suppress(InvalidIdentifier):
        canonical = normalize.email(f"{before}{local}{at}{domain}{after}")
    if canonical is not None:
        assert canonical.isascii()
        assert normalize.email(canonical) == canonical
