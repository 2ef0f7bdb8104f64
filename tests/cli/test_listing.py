"""Tables written and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from mld.inference.manifest import write_table
from mld.storage.files import append_line, read_lines
from mld_core import read_table


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("cell", ["a\rb", "\n", "\r\n", "\v", "\x85", "\u2028", '"', " a "])
def test_a_cell_comes_back_whatever_is_in_it(tmp_path: Path, name: str, cell: str) -> None:
    rows = [{"id": "1", "word": cell}, {"id": "2", "word": "plain"}]
    path = tmp_path / name
    path.write_text(write_table(path, ("id", "word"), rows), encoding="utf-8", newline="")
    assert [row.cells for row in read_table(path).rows] == rows


@pytest.mark.parametrize("cell", ["\x85", "\u2028", "\v", "\r"])
def test_a_line_of_json_is_read_whatever_is_in_it(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "told.jsonl"
    path.write_text(write_table(path, (), [{"cell": cell}]), encoding="utf-8", newline="")
    append_line(path, {"cell": cell})
    assert read_lines(path) == [{"cell": cell}] * 2
