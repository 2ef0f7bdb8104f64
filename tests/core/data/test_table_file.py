"""Tables as rows, or as errors with their lines."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mld_core import DataError, Table, TableRow, raise_line_errors, read_table


@pytest.fixture
def table(tmp_path: Path):
    def table(text: str, name: str = "rows.csv") -> Table:
        path = tmp_path / name
        path.write_text(text)
        return read_table(path)

    return table


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", 'a,b\n1,"x\ny"\n\n2,\n'),
        ("rows.CSV", 'a,b\r\n1,"x\ny"\r\n\r\n2,\r\n'),
        ("rows.jsonl", '{"a": "1", "b": "x\\ny"}\n\n\n\n{"a": "2", "b": ""}\n'),
    ],
)
def test_rows_and_columns(table, name: str, text: str) -> None:
    parsed = table(text, name)
    assert parsed.columns == ("a", "b")
    assert [row.cells for row in parsed.rows] == [{"a": "1", "b": "x\ny"}, {"a": "2", "b": ""}]
    assert parsed.rows[0] == TableRow(1 if name == "rows.jsonl" else 2, {"a": "1", "b": "x\ny"})
    assert parsed.rows[1].line == 5
    assert parsed.errors == ()
    assert parsed.sha256 == hashlib.sha256(parsed.path.read_bytes()).hexdigest()


def test_errors_are_collected_with_their_lines(table) -> None:
    parsed = table('{"a": 1}\n[]\n{"a": 1, "a": 2}\n{\n', "rows.jsonl")
    assert [row.line for row in parsed.rows] == [1]
    assert parsed.errors == (
        (2, "is not a JSON object"),
        (3, "names 'a' twice"),
        (4, "is not JSON: Expecting property name enclosed in double quotes at column 2"),
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("rows.csv", "a\n", "rows.csv: has no rows"),
        ("rows.jsonl", "[]\n", "rows.jsonl:1: is not a JSON object"),
        ("rows.txt", "a\n1\n", r"rows.txt: must be a file named \*.csv, \*.tsv or \*.jsonl"),
    ],
)
def test_files_without_rows(table, name: str, text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        table(text, name)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("rows.csv", "a;b\n1,2\n", ":2: has 1 cells, but the header has 2"),
        ("rows.csv", "sep=,\na,b\n1,2\n", ":1: 'sep=' is an instruction to Excel"),
        ("rows.csv", "sep=;\na;b\n1;2\n", ":1: 'sep=' is an instruction to Excel"),
        ("rows.csv", "a, a\n1,2\n", ":1: the header names 'a' 2 times"),
        ("rows.csv", "a,,\n1,,\n", ":1: the header names '' 2 times"),
        ("rows.csv", "a,b\n1,2\n".encode("utf-16"), ": is UTF-16 text: save it as UTF-8"),
        ("rows.csv", "a,b\n1,2\n".encode("utf-16-le"), ": is UTF-16 text: save it as UTF-8"),
        ("rows.csv", "a,b\n1,2\n".encode("utf-16-be"), ": is UTF-16 text: save it as UTF-8"),
        ("rows.csv", "a,b\n1,2\n".encode("utf-32"), ": is UTF-32 text: save it as UTF-8"),
        ("rows.csv", "a,b\ncaf\xe9,2\n".encode("latin-1"), ":2: .* reads 'café': save it as UTF-8"),
        ("rows.csv", b"PK\x03\x04\x14", ": is a spreadsheet or a zip archive"),
        ("rows.jsonl", b"\x1f\x8b\x08", ": is compressed"),
        ("rows.jsonl", "[" * 100_000, ":1: is nested too deeply"),
        ("rows.jsonl", '{"a": "\\ud800"}', ":1: holds half a character, '.ud800'"),
        ("rows.jsonl", '{"a": 1, " a": 2}', ":1: names 'a' twice"),
        ("rows.jsonl", '{"a": ' + "1" * 5000 + "}", ":1: Exceeds the limit"),
    ],
)
def test_files_that_are_no_tables(
    tmp_path: Path, name: str, content: str | bytes, expected: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=expected) as caught:
        read_table(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", " a ,\u00a0label\n x , e\u0301 \n"),
        ("rows.jsonl", '{" a ": " x ", "label\u00a0": " e\u0301 "}\n'),
    ],
)
def test_names_and_labels_are_stripped_and_composed(table, name: str, text: str) -> None:
    parsed = table(text, name)
    assert parsed.columns == ("a", "label")
    assert parsed.rows[0].cells["a"] == " x "
    assert parsed.rows[0].label == "\u00e9"


@pytest.mark.parametrize(
    ("name", "text", "separator"),
    [
        ("rows.csv", "a;b,c\n1;2,3\n", ","),
        ("rows.csv", "a;b,c;d\n1;2;3\n", ";"),
        ("rows.csv", "a;b\n1,5;2,5\n", ";"),
        ("rows.csv", '"a,b,c";d\n1;2\n', ";"),
        ("rows.csv", "a|b\n1|2\n", "|"),
        ("rows.csv", "a\tb, c\td\n1\t2\t3\n", "\t"),
        ("rows.tsv", "a\tb\n1, 2\t3\n", "\t"),
        ("rows.tsv", "a\n1\n", ","),
        ("rows.TSV", "\ufeff\na\tb\n1\t2\n", "\t"),
    ],
)
def test_the_header_tells_the_separator(table, name, text, separator):
    parsed = table(text, name)
    assert parsed.separator == separator
    header = text.strip("\ufeff\n").partition("\n")[0]
    assert separator.join(parsed.columns) == header.replace('"', "")
    assert not parsed.errors


def test_renamed_columns(table):
    parsed = table("SMILES,x,id\nC,1,a\n").renamed({"SMILES": "smiles", "absent": "b"})
    assert parsed.columns == ("smiles", "x", "id")
    assert parsed.rows == (TableRow(2, {"smiles": "C", "x": "1", "id": "a"}),)
    with pytest.raises(DataError, match="column 'x' is read as 'SMILES', but there is another"):
        table("SMILES,x\nC,1\n").renamed({"x": "SMILES"})


@given(st.binary(max_size=200), st.sampled_from(["rows.csv", "rows.jsonl"]))
def test_any_bytes_are_a_table_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    with suppress(DataError):
        assert read_table(path).rows


def test_ids_of_rows(table) -> None:
    parsed = table('{"id": 0}\n{"id": null}\n{"a": 1}\n', "rows.jsonl")
    assert [parsed.row_id(row) for row in parsed.rows] == ["0", "", ""]
    parsed = table("a\nx\n")
    assert parsed.row_id(parsed.rows[0]) == "rows.csv:2"


@pytest.mark.parametrize(("cell", "label"), [("0", "0"), ("null", ""), ('""', ""), ('"a"', "a")])
def test_labels(table, cell: str, label: str) -> None:
    assert table(f'{{"label": {cell}}}', "rows.jsonl").rows[0].label == label


def test_line_errors_are_sorted_and_limited() -> None:
    raise_line_errors(Path("a.csv"), [])
    with pytest.raises(DataError) as caught:
        raise_line_errors(Path("a.csv"), [(line, "is wrong") for line in range(12, 0, -1)])
    lines = str(caught.value).splitlines()
    assert lines[0] == "a.csv:1: is wrong"
    assert lines[9:] == ["a.csv:10: is wrong", "... and 2 more"]


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(DataError, match=r"rows\.csv: cannot be read: it is a named pipe"):
        read_table(tmp_path / "rows.csv")


def test_deep_json_is_an_error_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": ' + "[" * 10**5 + "]" * 10**5 + "}\n")
    assert read_table(path).errors == ((2, "is nested too deeply"),)
