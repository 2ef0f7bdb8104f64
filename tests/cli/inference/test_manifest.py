from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from mld.config.spec import Spec
from mld.data import item_places
from mld.inference.manifest import read_manifest
from mld.inference.trained_run import TrainedRun
from mld.storage.weight_store import WeightStore
from mld_core import DataError, read_table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lft,right\na,b\n", "unknown column 'lft'; did you mean 'left'"),
        (" Label ,right\na,1 2 3 4 5 6\n", "unknown column 'Label'; did you mean 'label'"),
        ("id,label\na,b\n", "no column is a modality of the run that is read"),
        ("left\nabsent.txt\n", "row 'rows.csv:2', modality 'left': .*absent.txt cannot be read"),
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
        assert header == ",right,remark,label"
        assert row == '0,1 2 3 4 5 6,"a, b", x '
        assert "no cell of right is empty: name columns to add with --want" in result.stderr


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_of_other_names_are_read_and_written(
    mld: Callable[..., Result],
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    separator: str,
) -> None:
    columns = {"left": "left", "right": "Right (mm)", "third": "third"}
    monkeypatch.setattr(Spec, "columns", columns)
    header = separator.join(["Right (mm)", "left", "remark"])
    Path("rows.csv").write_text(f"{header}\n1 2 3 4 5 6{separator * 2}x\n{separator * 2}\n")
    result = mld("impute", finished_run, "rows.csv", "--out", "out", "--want", "left,right")
    assert result.exit_code == 0, result.output
    filled = read_table(Path("out/rows.csv"))
    assert filled.separator == separator
    assert filled.columns == ("Right (mm)", "left", "remark")
    first, second = (row.cells for row in filled.rows)
    assert first["Right (mm)"] == "1 2 3 4 5 6"
    assert first["remark"] == "x"
    assert all(row["left"] for row in (first, second))
    assert second["Right (mm)"]
    Path("given.csv").write_text(f"remark{separator}left\n{separator}\n")
    words = ("--given-manifest", "given.csv", "--want", "right", "--table", "samples.csv")
    assert mld("sample", finished_run, *words, "-n", "1").exit_code == 0
    assert read_table(Path("samples.csv")).columns == ("id", "sample", "Right (mm)")
    Path("bad.csv").write_text("right,Right (mm)\n1,2\n")
    result = mld("score", finished_run, "bad.csv")
    assert result.exit_code == 5
    assert "column 'Right (mm)' is read as 'right', but there is another" in result.stderr


@pytest.mark.parametrize("on_invalid", ["empty", "drop"])
def test_cells_that_cannot_be_used_count_as_empty(
    trained_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_invalid: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("right,left\n1 2 3,\n1 2 3 4 5 6,none.txt\n1 2,none.txt\n")
    with pytest.raises(DataError, match=r"^4 items cannot be used"):
        read_manifest(trained_run, path)
    data = trained_run.spec.data.model_copy(update={"on_invalid": on_invalid})
    spec = trained_run.spec.model_copy(update={"data": data})
    monkeypatch.setattr(trained_run, "spec", spec)
    with pytest.warns(
        UserWarning, match=r"4 cells that cannot be used count as empty, (.|\n)*none"
    ):
        rows = read_manifest(trained_run, path)
    assert rows.present.tolist() == [[False] * 3, [False, True, False], [False] * 3]


def test_items_in_a_file_that_is_deleted_are_those_in_memory(
    trained_run: TrainedRun,
    write_manifest: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows of all splits, with missing cells; of more bytes than are kept in memory."""
    manifest, store = write_manifest(tmp_path / "data", missing=True), WeightStore(tmp_path / "s")
    monkeypatch.setattr(trained_run, "store", store)
    in_memory = read_manifest(trained_run, manifest)
    assert not store.root.exists()
    monkeypatch.setattr(item_places, "MEMORY_BYTES", 40 * 6 * 4 - 1)
    in_file = read_manifest(trained_run, manifest)
    assert store.items.is_dir()
    assert [*store.items.iterdir()] == []
    assert torch.equal(in_memory.present, in_file.present)
    assert 0 < int(in_memory.present.sum()) < in_memory.present.numel()
    for name, items in in_memory.items.items():
        assert torch.equal(items[:], in_file.items[name][:])
