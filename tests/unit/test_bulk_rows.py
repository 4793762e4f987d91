"""The rows of a file: what is read, on which line it stands, and where reading ends."""

import codecs
from pathlib import Path

import pytest

from nexus_graph.bulk.rows import BadRow, Row, UnreadableFile, open_rows

_LINE_MAX_BYTES = 4_096


def _rows(folder: Path, name: str, content: str | bytes) -> list[Row | BadRow]:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with open_rows(file, line_max_bytes=_LINE_MAX_BYTES) as rows:
        read = list(rows)
        assert rows.position_bytes == rows.size_bytes == file.stat().st_size
    return read


@pytest.mark.parametrize(
    "header", ["email,phoneNumber", "EMAIL,phone", "Email , Phone_Number", '"email","phonenumber"']
)
def test_csv_columns_go_by_any_of_their_names(tmp_path: Path, header: str) -> None:
    assert _rows(tmp_path, "a.csv", f"{header}\na@example.com,123456\n") == [Row(2, "a@example.com", "123456")]


def test_csv_other_columns_are_ignored_wherever_they_stand(tmp_path: Path) -> None:
    read = _rows(tmp_path, "a.csv", "at,phone,shop,email,note\n2026,123,books,a@example.com,hi\n")
    assert read == [Row(2, "a@example.com", "123")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_of_any_spreadsheet(tmp_path: Path, delimiter: str) -> None:
    text = f"id{delimiter}email{delimiter}phone\r\n1{delimiter}a@example.com{delimiter}123\r\n"
    assert _rows(tmp_path, "a.CSV", codecs.BOM_UTF8 + text.encode()) == [Row(2, "a@example.com", "123")]


def test_csv_with_one_column_short_rows_blank_lines_and_no_last_newline(tmp_path: Path) -> None:
    assert _rows(tmp_path, "a.csv", "email\na@example.com\n\nb@example.com") == [
        Row(2, "a@example.com", None),
        Row(4, "b@example.com", None),
    ]
    assert _rows(tmp_path, "b.csv", "email,phone\na@example.com\n,\n") == [
        Row(2, "a@example.com", None),
        Row(3, "", ""),
    ]


def test_csv_rows_know_the_line_they_begin_on(tmp_path: Path) -> None:
    read = _rows(tmp_path, "a.csv", 'note,email\n"two\nlines",a@example.com\nplain,b@example.com\n')
    assert read == [Row(2, "a@example.com", None), Row(4, "b@example.com", None)]


def test_json_lines(tmp_path: Path) -> None:
    text = "\n".join(
        [
            '{"email": "a@example.com", "phoneNumber": 123456, "other": [1]}',
            "",
            '{"Phone": "123", "email": null}',
            "[1]",
            "{",
            "[" * 2_000,
            '{"phone": "1", "phoneNumber": "2"}',
            '{"phone": "", "phone_number": "2"}',
            "{}",
        ]
    )
    assert _rows(tmp_path, "a.jsonl", text) == [
        Row(1, "a@example.com", 123456),
        Row(3, None, "123"),
        BadRow(4, "is not a JSON object"),
        BadRow(5, "is not JSON"),
        BadRow(6, "is not JSON"),
        BadRow(7, "names phoneNumber twice"),
        Row(8, None, "2"),
        Row(9, None, None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", "", "the name must end in .csv, .jsonl or .ndjson"),
        ("a.csv", "", "it is empty"),
        (
            "a.csv",
            "secret@example.com,123\nb@example.com,456\n",
            "its first line must name the columns, among them email, phone, phoneNumber or phone_number",
        ),
        ("a.csv", "phone,email,Phone_Number\n", "its header names phoneNumber 2 times"),
        ("a.csv", "email\na@example.com\n".encode("utf-16"), "line 1 is not UTF-8: save the file as UTF-8"),
        ("a.csv", b"email,note\na@example.com,Z\xfcrich\n", "line 2 is not UTF-8: save the file as UTF-8"),
        ("a.jsonl", b'{"email": "\xff@example.com"}', "line 1 is not UTF-8: save the file as UTF-8"),
        ("a.jsonl", "{}\n" + " " * (_LINE_MAX_BYTES + 1), f"line 2 is longer than {_LINE_MAX_BYTES} bytes"),
        ("a.csv", "email\n" + ('"' + "x\n" * 70_000), "line 2 is not CSV: is a quote not closed?"),
    ],
)
def test_where_reading_ends(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        _rows(tmp_path, name, content)
    assert str(caught.value) == message


def test_rows_before_the_end_of_reading_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"email\na@example.com\n\xff\n")
    with open_rows(file, line_max_bytes=_LINE_MAX_BYTES) as rows:
        reading = iter(rows)
        assert next(reading) == Row(2, "a@example.com", None)
        with pytest.raises(UnreadableFile, match="line 3"):
            next(reading)


def test_a_folder_and_a_missing_file_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    for name in ("a.csv", "missing.csv"):
        with (
            pytest.raises(UnreadableFile, match=r"^it cannot be opened: "),
            open_rows(tmp_path / name, line_max_bytes=_LINE_MAX_BYTES),
        ):
            pass
