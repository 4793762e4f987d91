"""What a row says: what cells mean, how several values are tied, and what is dropped and said."""

from pathlib import Path

import pytest

from tests.stage.exports import contacts, notes, pairs, put

EMAIL = "a@example.com"
SCIENTIFIC = "phoneNumber is in scientific notation, as a spreadsheet shows large numbers: digits are gone"
_NO_PHONE = (
    "N/A n/a #N/A - -- — NULL null none NaN 0 0.0 00000 000-000-0000 +0 ? keine unbekannt aucun néant ninguno nessuno "
    "geen brak нет なし 无 없음"
)
NOBODY = "email or phoneNumber is required: at least one of them, and not blank"


def _csv(folder: Path, *rows: str, header: str = "email;phone") -> Path:
    return put(folder, "a.csv", "\n".join([header, *rows]))


@pytest.mark.parametrize(
    ("cell", "phone"),
    [
        ("447900901001.0", "447900901001"),
        ("447900901001.00", "447900901001"),
        ("+447900900114.0", "+447900900114"),
        ("'+14155554001", "+14155554001"),
        ('="+14155552102"', "+14155552102"),
        ('"=""+14155552102"""', "+14155552102"),
        ("4.47900901001E+11", "447900901001"),
        ("\u202a+14155554001\u202c", "+14155554001"),
        (" +1 (415) 555-4001 ", "+14155554001"),
    ],
)
def test_numbers_as_spreadsheets_write_them(tmp_path: Path, cell: str, phone: str) -> None:
    read = contacts(_csv(tmp_path, f"{EMAIL};{cell}"))
    assert (pairs(read), notes(read)) == ([(2, (EMAIL, phone))], [])


@pytest.mark.parametrize("cell", ["4.47901E+11", "4,47901E+11", "4.479009E11", "4e+11", "1.2E+25"])
def test_numbers_whose_digits_are_gone(tmp_path: Path, cell: str) -> None:
    read = contacts(_csv(tmp_path, f"{EMAIL};{cell}"))
    assert pairs(read) == [(2, (EMAIL, None))]
    assert notes(read) == [("dropped", 2, "phone", SCIENTIFIC)]


@pytest.mark.parametrize("cell", ["(415) 555-1501 x12", "+1 415 555 1501 ext. 12", "tel:+14155551501;ext=12"])
def test_an_extension_is_left_away_and_said(tmp_path: Path, cell: str) -> None:
    for strict in (False, True):
        read = contacts(put(tmp_path, "a.jsonl", f'{{"email": "{EMAIL}", "phone": "{cell}"}}'), strict=strict)
        assert [email for _, (email, _) in pairs(read)] == [EMAIL]
        assert [phone for _, (_, phone) in pairs(read)] in (["4155551501"], ["+14155551501"])
        assert notes(read) == [("shortened", 1, "phone", "the extension is no part of the phone")]


@pytest.mark.parametrize(
    ("literal", "phone"),
    [
        ("447900901003.0", "447900901003"),
        ("447900901003", "447900901003"),
        ("4.47900901003E+11", "447900901003"),
        ('"447900901003.0"', "447900901003"),
        ('["+14155554001", null]', "+14155554001"),
    ],
)
def test_numbers_of_json(tmp_path: Path, literal: str, phone: str) -> None:
    read = contacts(put(tmp_path, "a.jsonl", f'{{"email": "{EMAIL}", "phone": {literal}}}'))
    assert (pairs(read), notes(read)) == ([(1, (EMAIL, phone))], [])


@pytest.mark.parametrize("literal", ["4.47901E+11", "447900901003.5", "true", "-5", "{}", "1e400"])
def test_numbers_of_json_that_are_no_phone(tmp_path: Path, literal: str) -> None:
    read = contacts(put(tmp_path, "a.jsonl", f'{{"email": "{EMAIL}", "phone": {literal}}}'))
    assert pairs(read) == [(1, (EMAIL, None))]
    assert [(fate, column) for fate, _, column, _ in notes(read)] == [("dropped", "phone")]


@pytest.mark.parametrize("cell", [*_NO_PHONE.split(), "não tem", "not available"])
def test_cells_that_say_that_there_is_no_phone(tmp_path: Path, cell: str) -> None:
    """The cell has no value, the row has: it is in, and what was left out is said. The strict refuse the row."""
    file = _csv(tmp_path, f"{EMAIL};{cell}")
    read = contacts(file)
    assert pairs(read) == [(2, (EMAIL, None))]
    assert notes(read) == [("empty", 2, "phone", "says that there is no phone")]
    strict = contacts(file, strict=True)
    assert (pairs(strict), notes(strict)) == ([], [("invalid", 2, "phone", "says that there is no phone")])


def test_zeros_join_no_strangers(tmp_path: Path) -> None:
    read = contacts(
        _csv(tmp_path, "a@example.com;0000000000", "b@example.com;0000000000", "c@example.com;000-000-0000")
    )
    assert [phone for _, (_, phone) in pairs(read)] == [None, None, None]


@pytest.mark.parametrize(
    "cell", ["ask at the desk", "12", "+1", "c@example.com", "030 1234562 or 63", "+99912345678901"]
)
def test_a_bad_phone_with_a_good_email_loses_the_phone(tmp_path: Path, cell: str) -> None:
    file = _csv(tmp_path, f"{EMAIL};{cell}")
    read = contacts(file)
    assert pairs(read) == [(2, (EMAIL, None))]
    [(fate, line, column, reason)] = notes(read)
    assert (fate, line, column) == ("dropped", 2, "phone")
    assert reason.startswith("phoneNumber ")
    strict = contacts(file, strict=True)
    assert (pairs(strict), notes(strict)) == ([], [("invalid", 2, "phone", reason)])


def test_a_bad_email_with_a_good_phone_loses_the_email(tmp_path: Path) -> None:
    read = contacts(_csv(tmp_path, "nobody;+14155554001", "n/a;+14155554002"))
    assert pairs(read) == [(2, (None, "+14155554001")), (3, (None, "+14155554002"))]
    assert [(fate, line, column) for fate, line, column, _ in notes(read)] == [
        ("dropped", 2, "email"),
        ("empty", 3, "email"),
    ]


def test_a_row_of_which_nothing_is_good_is_refused_once(tmp_path: Path) -> None:
    read = contacts(_csv(tmp_path, "nobody;no phone here", "n/a;-", "nobody;n/a", ";"))
    assert pairs(read) == []
    invalid = [note for note in notes(read) if note[0] == "invalid"]
    assert [(line, column) for _, line, column, _ in invalid] == [
        (2, "email, phone"),
        (3, None),
        (4, "email"),
        (5, None),
    ]
    assert "; " in invalid[0][3]
    assert invalid[1][3] == invalid[3][3] == NOBODY


def test_an_apostrophe_is_a_spreadsheets_mark_of_text(tmp_path: Path) -> None:
    read = contacts(_csv(tmp_path, "'c4@example.com;'+14155554001", "o'brien@example.com;", '="d@example.com";'))
    assert pairs(read) == [
        (2, ("c4@example.com", "+14155554001")),
        (3, ("o'brien@example.com", None)),
        (4, ("d@example.com", None)),
    ]


def test_several_values_are_tied_by_the_first_of_each_kind(tmp_path: Path) -> None:
    file = _csv(
        tmp_path,
        "a@example.com;b@example.com;+14155554001;+14155554002",
        ";b@example.com;;+14155554002",
        "a@example.com;A@example.com;+14155554001;+1 415 555 4001",
        header="Email 1;Email 2;Phone;Mobile",
    )
    read = contacts(file)
    assert pairs(read) == [
        (2, ("a@example.com", "+14155554001")),
        (2, ("b@example.com", "+14155554001")),
        (2, ("a@example.com", "+14155554002")),
        (3, ("b@example.com", "+14155554002")),
        (4, ("a@example.com", "+14155554001")),
    ]
    assert notes(read) == []


def test_the_first_value_may_be_bad(tmp_path: Path) -> None:
    file = _csv(tmp_path, "nobody;b@example.com;n/a;+14155554002", header="Email 1;Email 2;Phone;Mobile")
    read = contacts(file)
    assert pairs(read) == [(2, ("b@example.com", "+14155554002"))]
    assert [(fate, column) for fate, _, column, _ in notes(read)] == [("dropped", "Email 1"), ("empty", "Phone")]


def test_members_of_json_that_only_some_rows_have(tmp_path: Path) -> None:
    lines = ['{"email": "a@example.com"}', '{"email": "a@example.com", "phone": 123456}', '{"phone": "123456"}']
    read = contacts(put(tmp_path, "a.jsonl", "\n".join(lines)))
    assert pairs(read) == [(1, (EMAIL, None)), (2, (EMAIL, "123456")), (3, (None, "123456"))]
    assert notes(read) == []


def test_several_values_that_nothing_ties_are_said(tmp_path: Path) -> None:
    read = contacts(
        _csv(
            tmp_path, "a@example.com;b@example.com;", ";;+14155554001 ::: +14155554002", header="Email 1;Email 2;Phone"
        )
    )
    assert pairs(read) == [
        (2, ("a@example.com", None)),
        (2, ("b@example.com", None)),
        (3, (None, "+14155554001")),
        (3, (None, "+14155554002")),
    ]
    assert notes(read) == [
        ("untied", 2, "Email 1, Email 2", "names several emails and no phone that would tie them"),
        ("untied", 3, "Phone", "names several phones and no email that would tie them"),
    ]


def test_several_values_in_a_cell_as_google_writes_them(tmp_path: Path) -> None:
    file = _csv(
        tmp_path,
        "a@example.com ::: b@example.com;+14155554001 ::: n/a",
        header="E-mail 1 - Value;Phone 1 - Value",
    )
    assert pairs(contacts(file)) == [
        (2, ("a@example.com", "+14155554001")),
        (2, ("b@example.com", "+14155554001")),
    ]


def test_several_emails_in_a_cell_as_hubspot_writes_them(tmp_path: Path) -> None:
    file = put(
        tmp_path,
        "a.csv",
        "Email,Additional email addresses,Phone Number\na@example.com,b@example.com;c@example.com,+14155554001\n",
    )
    assert [email for _, (email, _) in pairs(contacts(file))] == ["a@example.com", "b@example.com", "c@example.com"]
