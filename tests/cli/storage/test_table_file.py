from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mld.storage.files import append_line, read_lines
from mld.storage.table_file import write_table
from mld_core import OutputError, read_table


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl"])
@pytest.mark.parametrize(
    "cell", ["a\rb", "\n", "\r\n", "\v", "\x85", "\u2028", '"', " a ", ",", "\t"]
)
def test_tables_preserve_every_cell(tmp_path: Path, name: str, cell: str) -> None:
    rows = [{"id": "1", "word": cell}, {"id": "2", "word": "plain"}]
    path = tmp_path / name
    write_table(path, ("id", "word"), rows)
    assert [row.cells for row in read_table(path).rows] == rows


@pytest.mark.parametrize("cell", ["\x85", "\u2028", "\v", "\r"])
def test_json_lines_preserve_every_cell(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "cells.jsonl"
    write_table(path, (), [{"cell": cell}])
    append_line(path, {"cell": cell})
    assert read_lines(path) == [{"cell": cell}] * 2


def test_only_rows_that_need_it_are_quoted(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ("a\rb", "c"), [{"a\rb": "1", "c": "2"}, {"c": "3\r4"}])
    assert (tmp_path / "a.csv").read_bytes() == b'"a\rb","c"\n1,2\n"","3\r4"\n'


def test_a_table_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"a": "1"}
        raise KeyboardInterrupt

    path = tmp_path / "a.csv"
    write_table(path, ["a"], [{"a": "0"}])
    with pytest.raises(KeyboardInterrupt):
        write_table(path, ["a"], rows())
    assert path.read_text() == "a\n0\n"
    assert [child.name for child in tmp_path.iterdir()] == ["a.csv"]
    with pytest.raises(OutputError, match=r"a\.csv is not a folder"):
        write_table(path / "b.csv", ["a"], [])
