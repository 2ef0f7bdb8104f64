from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from mld.inference.manifest import format_table
from mld.storage.files import append_line, read_lines
from mld_core import read_table


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("cell", ["a\rb", "\n", "\r\n", "\v", "\x85", "\u2028", '"', " a "])
def test_tables_preserve_every_cell(tmp_path: Path, name: str, cell: str) -> None:
    rows = [{"id": "1", "word": cell}, {"id": "2", "word": "plain"}]
    path = tmp_path / name
    path.write_text(format_table(path, ("id", "word"), rows), encoding="utf-8", newline="")
    assert [row.cells for row in read_table(path).rows] == rows


@pytest.mark.parametrize("cell", ["\x85", "\u2028", "\v", "\r"])
def test_json_lines_preserve_every_cell(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "cells.jsonl"
    path.write_text(format_table(path, (), [{"cell": cell}]), encoding="utf-8", newline="")
    append_line(path, {"cell": cell})
    assert read_lines(path) == [{"cell": cell}] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lft,right\na,b\n", "unknown column 'lft'; did you mean 'left'"),
        (" Label ,right\na,1 2 3 4 5 6\n", "unknown column 'Label'; did you mean 'label'"),
        ("id,label\na,b\n", "no column is a modality of the run"),
        ("left\nabsent.txt\n", "rows.csv:2: column 'left'.*absent.txt cannot be read"),
        ("right\n1 2 3\n", "row 'rows.csv:2', modality 'right': 3 numbers, expected 6"),
        ('right\n"1 2\n', "rows.csv:2: is not CSV"),
        ("left,right\n", "has no rows"),
        ("", "has no rows"),
    ],
)
@pytest.mark.parametrize("command", ["score", "impute"])
def test_errors_of_manifests(
    mld: Callable[..., Result], finished_run: Path, command: str, text: str, message: str
) -> None:
    Path("rows.csv").write_text(text)
    result = mld(command, finished_run, "rows.csv", "--out", "out.csv")
    assert result.exit_code == 5, result.output
    assert re.search(message, result.stderr), result.stderr
    assert "Traceback" not in result.output
    assert [path.name for path in Path.cwd().iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("command", ["score", "impute"])
def test_unused_columns_are_named_once(
    mld: Callable[..., Result], finished_run: Path, command: str
) -> None:
    Path("rows.csv").write_text(',right, remark, label\n0,1 2 3 4 5 6,"a, b", x \n')
    result = mld(command, finished_run, "rows.csv", "--out", "out.csv")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("warning: rows.csv: unused columns '', 'remark'\n") == 1
    if command == "impute":
        header, row = Path("out.csv/rows.csv").read_text().splitlines()
        assert header.startswith(",right,remark,label,")
        assert row.startswith('0,1 2 3 4 5 6,"a, b", x ,')
