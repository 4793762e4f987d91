"""The rows of a file: what is read, on which line it stands, what is no row, and where reading ends."""

import codecs
import random
from pathlib import Path

import pytest

from nexus_graph.bulk.columns import SAMPLED_ROWS
from nexus_graph.bulk.lines import BadRow, Row, UnclearColumns, UnreadableFile
from nexus_graph.bulk.rows import open_rows
from tests.stage.exports import LINE_MAX_BYTES, contacts, notes, pairs, put, understood

ADA = ("a@example.com", "+14155551101")
BOB = ("b@example.com", "+14155551102")
CY = ("c@example.com", "+14155551103")
DI = ("d@example.com", "+14155551104")

NOT_CLOSED = "a quote is opened and not closed"
NAMES = "its first line must name the columns, among them email, phone, phoneNumber or phone_number"
ONE = "its first line names one column"
BETWEEN = "separate fields by commas, semicolons, tabs or bars, outside quotes. If the file has one column:"
TWICE = "its header names phone 2 times: give each column its own name, or choose columns by number"


@pytest.mark.parametrize(
    "header", ["email,phoneNumber", "EMAIL,phone", "Email , Phone_Number", '"email","phonenumber"']
)
def test_csv_columns_go_by_any_of_their_names(tmp_path: Path, header: str) -> None:
    read = contacts(put(tmp_path, "a.csv", f"{header}\na@example.com,123456\n"))
    assert pairs(read) == [(2, ("a@example.com", "123456"))]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.CSV", "a.tsv"])
def test_csv_of_any_spreadsheet(tmp_path: Path, delimiter: str, name: str) -> None:
    text = f"id{delimiter}email{delimiter}phone\r\n1{delimiter}a@example.com{delimiter}+14155551101\r\n"
    assert pairs(contacts(put(tmp_path, name, codecs.BOM_UTF8 + text.encode()))) == [(2, ADA)]


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_line_by_which_a_spreadsheet_names_the_delimiter(tmp_path: Path, line: str) -> None:
    read = contacts(put(tmp_path, "a.csv", f"\ufeff{line}\r\nemail;phone\r\na@example.com;+14155551101\r\n"))
    assert pairs(read) == [(3, ADA)]


@pytest.mark.parametrize(
    "header", ["\ufeff\ufeffemail,phone", "\u200bemail,\u202aphone\u202c", "em\u00adail,phone\u00a0"]
)
def test_what_cannot_be_seen_in_a_header(tmp_path: Path, header: str) -> None:
    assert pairs(contacts(put(tmp_path, "a.csv", f"{header}\na@example.com,+14155551101\n"))) == [(2, ADA)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_however_lines_end(tmp_path: Path, end: str) -> None:
    lines = ["note,email,phone", '"two\nlines",a@example.com,+14155551101', "", "plain,b@example.com,+14155551102"]
    read = contacts(put(tmp_path, "a.csv", end.join(lines)))
    assert pairs(read) == [(2, ADA), (5, BOB)]


def test_rows_ended_by_cr_below_a_header_ended_by_lf(tmp_path: Path) -> None:
    text = "email,phone\na@example.com,+14155551101\rb@example.com,+14155551102\r"
    assert [pair for _, pair in pairs(contacts(put(tmp_path, "a.csv", text)))] == [ADA, BOB]


def test_a_carriage_return_within_a_row_is_a_fault_of_that_row(tmp_path: Path) -> None:
    text = "email,phone,name\na@example.com,+14155551101,A\rda\nb@example.com,+14155551102,Bob\n"
    read = contacts(put(tmp_path, "a.csv", text))
    assert pairs(read) == [(3, BOB)]
    assert notes(read) == [("invalid", 2, None, "a carriage return stands in the middle of the line")]


def test_the_sampled_rows_may_end_within_a_line_of_two_rows(tmp_path: Path) -> None:
    single = [f"a{row}@example.com" for row in range(SAMPLED_ROWS - 1)]
    last = ["b@example.com", "c@example.com", "d@example.com"]
    text = "\n".join(["email", *single, f"{last[0]}\r{last[1]}", last[2]])
    read = contacts(put(tmp_path, "a.csv", text))
    assert [pair[0] for _, pair in pairs(read)] == [*single, *last]


def test_a_header_with_line_ends_in_its_names(tmp_path: Path) -> None:
    text = '"E-mail\nAddress","Phone\nNumber"\na@example.com,+14155551101\n'
    assert pairs(contacts(put(tmp_path, "a.csv", text))) == [(4, ADA)]


def test_blanks_around_quotes(tmp_path: Path) -> None:
    text = 'email,phone\n "a@example.com", "+14155551101"\n"b@example.com" ,"+14155551102" \n'
    assert pairs(contacts(put(tmp_path, "a.csv", text))) == [(2, ADA), (3, BOB)]


@pytest.mark.parametrize(
    "below",
    [
        # Whatever stands below a quote that is not closed, it is read.
        'b@example.com,+14155551102,Bob\nc@example.com,+14155551103,"Cy"\nd@example.com,+14155551104,Di\n',
        "b@example.com,+14155551102,Bob\nc@example.com,+14155551103,Cy\nd@example.com,+14155551104,Di\n",
        'b@example.com,+14155551102,Bob\n"c@example.com",+14155551103,Cy\nd@example.com,+14155551104,Di\n',
        'b@example.com,+14155551102,Bob\nc@example.com,+14155551103,","\nd@example.com,+14155551104,Di\n',
        'b@example.com,+14155551102,Bob\nc@example.com,+14155551103,""\nd@example.com,+14155551104,Di',
        'b@example.com,+14155551102,Bob\nc@example.com,+14155551103,"Cy\nthe second"\nd@example.com,+14155551104,"Di"',
    ],
)
def test_a_quote_that_is_not_closed_takes_its_own_row_alone(tmp_path: Path, below: str) -> None:
    read = contacts(put(tmp_path, "a.csv", f'email,phone,name\na@example.com,+14155551101,"Dwayne\n{below}'))
    assert [pair for _, pair in pairs(read)] == [BOB, CY, DI]
    [(fate, line, _, reason)] = notes(read)
    assert (fate, line) == ("invalid", 2)
    assert reason.startswith(NOT_CLOSED)


def test_a_quoted_row_whose_end_swallows_as_many_fields(tmp_path: Path) -> None:
    text = (
        'name,email,phone\n"Dwayne,a@example.com,+14155551101\nBob,b@example.com,+14155551102\n'
        '",c@example.com,+14155551103\nDi,d@example.com,+14155551104\n'
    )
    read = contacts(put(tmp_path, "a.csv", text))
    assert [pair for _, pair in pairs(read)][:1] == [BOB]
    assert DI in [pair for _, pair in pairs(read)]
    assert {line for _, line, _, _ in notes(read)} <= {2, 4}


def test_a_quote_not_closed_before_a_long_file(tmp_path: Path) -> None:
    many = "".join(f"e{n}@example.com,+1415555{n:04}\n" for n in range(9_000))
    read = contacts(put(tmp_path, "a.csv", f'email,phone\n"x@example.com,+14155551101\n{many}'))
    assert len(pairs(read)) == 9_000
    assert notes(read) == [("invalid", 2, None, NOT_CLOSED)]


def test_notes_of_several_lines_are_no_rows(tmp_path: Path) -> None:
    text = 'email,note\na@example.com,"Hello, Ada\nThanks, Bob\n\n""quoted"", too"\nb@example.com,\n'
    read = contacts(put(tmp_path, "a.csv", text))
    assert pairs(read) == [(2, (ADA[0], None)), (6, (BOB[0], None))]
    assert notes(read) == []


def test_rows_with_too_few_and_too_many_fields(tmp_path: Path) -> None:
    text = (
        "email,phone,name\na@example.com,+14155551101\nb@example.com\n"
        "b@example.com,+14155551102,Bob,more\nc@example.com,+14155551103,Cy,,\n  \n,,\n"
    )
    read = contacts(put(tmp_path, "a.csv", text))
    assert pairs(read) == [(5, CY)]
    assert [(line, reason) for _, line, _, reason in notes(read)] == [
        (2, "has too few fields: 2, and the header 3"),
        (3, "has too few fields: 1, and the header 3"),
        (4, "has too many fields: 4, and the header 3"),
        (7, "email or phoneNumber is required: at least one of them, and not blank"),
    ]


def test_csv_with_one_column_blank_lines_and_no_last_newline(tmp_path: Path) -> None:
    read = contacts(put(tmp_path, "a.csv", "\n\nemail\na@example.com\n\nb@example.com"))
    assert pairs(read) == [(4, (ADA[0], None)), (6, (BOB[0], None))]


def test_nul_and_the_end_of_file_of_dos_are_faults_of_their_rows(tmp_path: Path) -> None:
    read = contacts(put(tmp_path, "a.csv", "email,phone\na\0b@example.com,\nb@example.com,+14155551102\n\x1a"))
    assert pairs(read) == [(3, BOB)]
    assert [line for _, line, _, _ in notes(read)] == [2, 4]


def test_json_lines(tmp_path: Path) -> None:
    text = "\n".join(
        [
            '{"email": "a@example.com", "phoneNumber": 123456, "other": [1]}',
            "",
            '{"Phone": "123", "email": null}',
            "[1]",
            "{",
            "[" * 2_000,
            '{"phone": "111", "phone": "222"}',
            '{"phone": "", "phone_number": "222"}',
            "{}",
            '{"email": "b@example.com", "other": {"a": 1, "a": 2}}',
            '{"email": "b@example.com", "other": NaN}',
        ]
    )
    read = contacts(put(tmp_path, "a.jsonl", text))
    assert pairs(read) == [(1, ("a@example.com", "123456")), (3, (None, "123")), (8, (None, "222"))]
    assert [(line, reason) for _, line, _, reason in notes(read)] == [
        (4, "is not a JSON object"),
        (5, "is not JSON"),
        (6, "is not JSON"),
        (7, "names a member twice"),
        (9, "email or phoneNumber is required: at least one of them, and not blank"),
        (10, "names a member twice"),
        (11, "is not JSON"),
    ]


def test_members_that_come_later(tmp_path: Path) -> None:
    """After the first rows a member that looks like an email or a phone is its row's fault; others are said."""
    first = '{"email": "a@example.com"}\n' * 100
    file = put(tmp_path, "a.ndjson", first + '{"email": "b@example.com", "ownerEmail": "x@example.com", "nick": "b"}\n')
    read = contacts(file)
    assert notes(read) == [
        ("invalid", 101, None, "names ownerEmail, which looks like an email: --map or --ignore it"),
    ]
    assert pairs(contacts(file, ignored=("ownerEmail",)))[-1] == (101, (BOB[0], None))
    assert pairs(contacts(file, mapped=("email=ownerEmail",)))[-2:] == [
        (101, (BOB[0], None)),
        (101, ("x@example.com", None)),
    ]
    with open_rows(file, line_max_bytes=LINE_MAX_BYTES) as rows:
        before = rows.understood.unused
        list(rows)
        assert rows.understood.unused[len(before) :] == ["nick"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", "", "the name must end in .csv, .tsv, .jsonl or .ndjson: save the sheet as CSV UTF-8"),
        ("a.json", "", "the name must end in .csv, .tsv, .jsonl or .ndjson: write one object a line"),
        ("a.csv.gz", "", "the name must end in .csv, .tsv, .jsonl or .ndjson: unpack it first"),
        ("a.csv", "", "it is empty"),
        ("a.csv", "\n \n", "it is empty"),
        (
            "a.csv",
            "secret@example.com,123\nb@example.com,456\n",
            f"{NAMES}: it holds values",
        ),
        (
            "a.csv",
            "# people\nemail,phone\n",
            f"{NAMES}; it names # people. Name them: --map email=COLUMN --map phone=COLUMN",
        ),
        ("a.csv", '"email,phone"\n"a@example.com,1"\n', f'{ONE}, email,phone: {BETWEEN} --map email="email,phone"'),
        ("a.csv", "email:phone\n", f'{ONE}, email:phone: {BETWEEN} --map email="email:phone"'),
        (
            "a.csv",
            "phone,email,Phone\n",
            f'{TWICE}, as in --ignore "column 1"',
        ),
        ("a.csv", "email\na@example.com\n".encode("utf-16"), "line 1 is not UTF-8 but UTF-16: save the file as UTF-8"),
        ("a.csv", "email\n".encode("utf-16-le"), "line 1 is not UTF-8 but UTF-16: save the file as UTF-8"),
        ("a.csv", b"email,note\na@example.com,Z\xfcrich\n", "line 2 is not UTF-8: save the file as UTF-8"),
        ("a.jsonl", b'{"email": "\xff@example.com"}', "line 1 is not UTF-8: save the file as UTF-8"),
        ("a.jsonl", "{}\n" + " " * (LINE_MAX_BYTES + 1), f"line 2 is longer than {LINE_MAX_BYTES} bytes"),
        ("a.csv", "email\r" + "x" * (LINE_MAX_BYTES + 1) + "\r", f"line 2 is longer than {LINE_MAX_BYTES} bytes"),
        (
            "a.csv",
            '"email,phone\na,1\n',
            "line 1, which names the columns, is not CSV: a quote is opened and not closed",
        ),
    ],
)
def test_where_reading_ends(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        contacts(put(tmp_path, name, content))
    assert str(caught.value) == message


@pytest.mark.parametrize("rows", [1, 150])
def test_rows_before_the_end_of_reading_are_read(tmp_path: Path, rows: int) -> None:
    file = put(tmp_path, "a.csv", b"email\n" + b"a@example.com\n" * rows + b"\xff\n")
    with open_rows(file, line_max_bytes=LINE_MAX_BYTES) as opened:
        reading = iter(opened)
        assert [next(reading).line for _ in range(rows)] == list(range(2, 2 + rows))
        with pytest.raises(UnreadableFile, match=f"line {rows + 2} is not UTF-8"):
            next(reading)


def test_a_folder_and_a_missing_file_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    for name in ("a.csv", "missing.csv"):
        with pytest.raises(UnreadableFile, match=r"^it cannot be opened: "):
            contacts(tmp_path / name)


def test_a_row_that_is_no_csv_keeps_what_can_be_told_of_its_fields(tmp_path: Path) -> None:
    file = put(tmp_path, "a.csv", 'email,phone,name\na@example.com,+14155551101,"Dwayne\nb@example.com,,\n')
    with open_rows(file, line_max_bytes=LINE_MAX_BYTES) as rows:
        assert list(rows) == [
            BadRow(2, NOT_CLOSED, ["a@example.com", "+14155551101", "Dwayne"]),
            Row(3, ["b@example.com", "", ""]),
        ]


def test_what_was_understood(tmp_path: Path) -> None:
    said = understood(put(tmp_path, "a.csv", "Name;E-Mail;Telefon;Notiz\n"))
    assert (said.form, said.emails, said.phones, said.unused) == (
        "CSV, separated by semicolons",
        ["E-Mail"],
        ["Telefon"],
        ["Name", "Notiz"],
    )


def test_no_message_holds_what_a_header_says_of_people(tmp_path: Path) -> None:
    file = put(tmp_path, "a.csv", "email,secret@example.com,+1 415 555 0101\na@example.com,x,y\n")
    assert understood(file).unused == ["column 2", "column 3"]
    with pytest.raises(UnclearColumns) as caught:
        understood(put(tmp_path, "b.csv", "name,secret\nBo,b@example.com\n"))
    assert "b@example.com" not in str(caught.value)


_NAMES = (
    *(
        "Bob",
        '"q"',
        '"open',
        'end"',
        'mid"dle',
        '""',
        '"a{0}b"',
        '" sp"',
        '"x" ',
        '"',
        ' "lead"',
        '"esc ""in"""',
        '"""',
    ),
    *('""open', "o'b", '"two" "three"', '"{0}"', '"two\nlines"', '"two\n""lines""{0} and"', '"{0}open', "\r"),
)


@pytest.mark.parametrize(("delimiter", "end"), [(",", "\n"), (";", "\r\n"), ("\t", "\n"), ("|", "\r\n")])
def test_whatever_quotes_do_every_row_is_read_or_said_and_none_takes_anothers_phone(
    tmp_path: Path, rng: random.Random, delimiter: str, end: str
) -> None:
    for _ in range(100):
        place = rng.randrange(3)
        rows, line, lines = [], 2, []
        for number in range(rng.randint(1, 12)):
            name = rng.choice(_NAMES).replace("{0}", delimiter) if rng.random() < 0.5 else "Bob"
            fields = [f"e{number}@example.com", f"+1415555{number:04}"]
            rows.append(delimiter.join([*fields[:place], name, *fields[place:]]))
            lines.append(line)
            line += 1 + name.count("\n")
        header = ["email", "phone"]
        header.insert(place, "name")
        read = contacts(put(tmp_path, "a.csv", end.join([delimiter.join(header), *rows]) + rng.choice(["", end])))

        said = {line for _, line, _, _ in notes(read)}
        found = {email: phone for _, (email, phone) in pairs(read)}
        for number, line in enumerate(lines):
            phone = found.get(f"e{number}@example.com", "lost")
            assert phone == f"+1415555{number:04}" or (phone == "lost" and line in said), (rows, line)
