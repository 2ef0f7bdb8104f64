"""Tables as rows, or as errors with their lines."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

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
        ("rows.tsv", "a\n1\n", r"rows.tsv: must be a file named \*.csv or \*.jsonl"),
    ],
)
def test_files_without_rows(table, name: str, text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        table(text, name)


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
