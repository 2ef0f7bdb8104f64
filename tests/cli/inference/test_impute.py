from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from mld.inference.impute import _Imputer, impute, read_filled
from mld.inference.manifest import read_manifest
from mld.inference.trained_run import TrainedRun
from mld_core import DataError, RunDirError

WriteManifest = Callable[..., Path]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_every_empty_cell_is_filled_and_given_cells_stay(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path, name: str
) -> None:
    path = write_manifest(tmp_path / "m", missing=True, name=name)
    filled = impute(trained_run, path, tmp_path / "out", 3)
    before, after = read_manifest(trained_run, path), read_manifest(trained_run, filled)
    assert after.ids == before.ids
    assert bool(after.present.all())
    for old, new in zip(before.cells, after.cells, strict=True):
        for column, cell in old.items():
            assert not cell or new[column] == cell
            if cell and column in ("left", "third"):
                assert (filled.parent / cell).read_bytes() == (path.parent / cell).read_bytes()
    assert set(after.columns) == set(before.columns)
    cells = read_filled(tmp_path / "out")
    assert len(cells) == int((~before.present).sum())
    assert all(len(cell["alternatives"]) == 3 for cell in cells)
    agreements = ("class_agreement", "latent_agreement")
    assert all(0 <= cell[agreement] <= 1 for cell in cells for agreement in agreements)
    assert {cell["id"] for cell in cells if cell["joint"]} == {"r0"}
    classifier = trained_run.classifiers["right"]
    filled_rows = [row for row in range(1, 40) if not before.present[row, 1]]
    predicted = classifier(after.items["right"][filled_rows]).argmax(1)
    labels = torch.tensor([row % 10 for row in filled_rows])
    assert float((predicted == labels).double().mean()) > 0.8


def test_an_interrupted_imputation_resumes(
    trained_run: TrainedRun,
    write_manifest: WriteManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_manifest(tmp_path / "m", missing=True)
    uninterrupted = impute(trained_run, path, tmp_path / "uninterrupted", 2)
    fill_batch = _Imputer._fill_batch
    batches: list[list[int]] = []

    def interrupted(self: _Imputer, batch: list[int], *args: Any) -> Any:
        batches.append(batch)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return fill_batch(self, batch, *args)

    monkeypatch.setattr(_Imputer, "_fill_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        impute(trained_run, path, tmp_path / "out", 2)
    filled = {row for batch in batches[:2] for row in batch}
    assert not (tmp_path / "out" / "rows.csv").exists()
    resumed = impute(trained_run, path, tmp_path / "out", 2)
    assert not filled & {row for batch in batches[3:] for row in batch}
    assert resumed.read_bytes() == uninterrupted.read_bytes()
    batches.clear()
    impute(trained_run, path, tmp_path / "out", 2)
    assert not batches
    with pytest.raises(RunDirError, match="another manifest, run or setting"):
        impute(trained_run, path, tmp_path / "out", 3)
    with pytest.raises(RunDirError, match="not empty"):
        impute(trained_run, path, tmp_path / "m" / "deep")
    with pytest.raises(DataError, match="own folder"):
        impute(trained_run, path, tmp_path / "m")


def test_impute_command_writes_a_manifest_and_a_page(
    mld: Callable[..., Result], finished_run: Path, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m", missing=True)
    result = mld("impute", finished_run, path, "--out", "filled", "-n", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "filled/rows.csv"
    assert "1 rows generated jointly" in result.stderr
    page = Path("filled/report.html").read_text()
    assert "nothing given: generated jointly" in page
    assert "latent agreement" in page
    again = mld("impute", finished_run, path, "--out", "filled", "-n", "2", "--json")
    assert json.loads(again.stdout)["manifest"] == "filled/rows.csv"
    without_rows = mld("impute", finished_run, path, "--out", "filled", "-n", "2", "--gallery", "0")
    assert without_rows.exit_code == 0, without_rows.output


def test_a_path_out_of_the_folder_becomes_absolute(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m")
    (tmp_path / "m" / "deep" / "list.csv").write_text("left,third\n../3.txt,\n")
    filled = impute(trained_run, tmp_path / "m" / "deep" / "list.csv", tmp_path / "out")
    left = filled.read_text().splitlines()[1].split(",")[0]
    assert Path(left) == path.parent / "3.txt"
    assert bool(read_manifest(trained_run, filled).present.all())
