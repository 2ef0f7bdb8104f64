from __future__ import annotations

import copy
import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from mld.inference.cell_sampler import Rows
from mld.inference.impute import _Imputer, impute, read_filled, read_held_out
from mld.inference.manifest import read_manifest
from mld.inference.trained_run import TrainedRun
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld.storage.files import append_line
from mld_core import OutputError, SpecError

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
    assert all(0 <= cell["class_agreement"] <= 1 and cell["spread"] > 0 for cell in cells)
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

    def interrupted(self: _Imputer, rows: Rows, numbers: list[int]) -> Any:
        batches.append(numbers)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return fill_batch(self, rows, numbers)

    monkeypatch.setattr("mld.inference.impute.BATCH_SIZE", 8)
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
    with pytest.raises(OutputError, match="another manifest, run or setting"):
        impute(trained_run, path, tmp_path / "out", 3)
    with pytest.raises(OutputError, match="not empty"):
        impute(trained_run, path, tmp_path / "m" / "deep")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="loop cannot be written: Too many levels"):
        impute(trained_run, path, tmp_path / "loop")
    with pytest.raises(OutputError, match="own folder"):
        impute(trained_run, path, tmp_path / "m")


@pytest.mark.usefixtures("rounding_by_batch")
def test_alternatives_do_not_depend_on_their_number_or_on_an_interruption(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m", missing=True)
    impute(trained_run, path, tmp_path / "three", 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mld.inference.impute.append_line", _stop_after(append_line, 5))
        with pytest.raises(KeyboardInterrupt):
            impute(trained_run, path, tmp_path / "two", 2)
    impute(trained_run, path, tmp_path / "two", 2)
    three = {(cell["id"], cell["modality"]): cell for cell in read_filled(tmp_path / "three")}
    for cell in read_filled(tmp_path / "two"):
        longer = three[cell["id"], cell["modality"]]["alternatives"]
        assert cell["alternatives"] == longer[:2]
        if cell["modality"] != "right":
            for name in cell["alternatives"]:
                assert (tmp_path / "two" / name).read_bytes() == (
                    tmp_path / "three" / name
                ).read_bytes()


def test_guidance_is_zero_by_default(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m", missing=True)
    impute(trained_run, path, tmp_path / "default", 2)
    impute(trained_run, path, tmp_path / "none", 2, guidance=0)
    impute(trained_run, path, tmp_path / "much", 2, guidance=3)
    default, none, much = (read_filled(tmp_path / name) for name in ("default", "none", "much"))
    assert default == none != much
    settings = [{"guidance": 1}, {"steps": 3}, {"sampler": "ddim"}]
    for other in settings:
        with pytest.raises(OutputError, match="another manifest, run or setting"):
            impute(trained_run, path, tmp_path / "default", 2, **other)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="must be one of"):
        impute(trained_run, path, tmp_path / "typo", sampler="eulr")


def test_what_the_model_cannot_sample_is_an_error_before_the_work(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    generator = trained_run.generator
    assert isinstance(generator, DiffusionGenerator)
    joint = copy.copy(trained_run)
    joint.generator = replace(generator, model=replace(generator.model, scheme="joint"))
    path = write_manifest(tmp_path / "m", missing=True)
    with pytest.raises(SpecError, match="sampler must be inpaint, not ddim"):
        impute(joint, path, tmp_path / "out", sampler="ddim")
    assert not (tmp_path / "out").exists()


def _stop_after(function: Callable[..., None], calls: int) -> Callable[..., None]:
    """The function, which is interrupted at a later call."""
    left = iter(range(calls))

    def stopping(*args: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        function(*args)

    return stopping


def test_given_files_keep_their_names_and_bytes(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    """Also those that an earlier imputation has generated, and in a resumed one."""
    path = write_manifest(tmp_path / "m")
    generated = path.parent / "Generated" / "left" / "00001-0.txt"
    generated.parent.mkdir(parents=True)
    generated.write_text("4 0 4 0 5 0\r\n")
    path.write_text("left,third\n./Generated/left/00001-0.txt,\n,3.txt\n")
    out = tmp_path / "out"
    for _ in range(2):
        filled = impute(trained_run, path, out, 1)
        copy = out / "Generated" / "left" / "00001-0.txt"
        assert copy.read_bytes() == generated.read_bytes()
        first, second = read_manifest(trained_run, filled).cells
        assert first["left"] == "./Generated/left/00001-0.txt"
        assert second["left"] == "generated-2/left/00001-0.txt"
    generated.write_text("4 0 4 0 5 1")
    with pytest.raises(OutputError, match="is no copy of"):
        impute(trained_run, path, out, 1)


@pytest.mark.parametrize("name", ["report.html", "ROWS.csv", "imputed.jsonl", ".mld.json"])
def test_given_files_with_names_of_outputs_are_an_error(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path, name: str
) -> None:
    path = write_manifest(tmp_path / "m").with_name("rows.csv")
    text = (path.parent / "1.txt").read_text()
    path.write_text(f"left,third\n{name}/3,\n")
    if name != "ROWS.csv":
        (path.parent / name).mkdir()
        (path.parent / name / "3").write_text(text)
    else:
        (path.parent / name).write_text(text)
        path.write_text(f"left,third\n{name},\n")
    with pytest.raises(OutputError, match=f"the given file '{name}.*rename it"):
        impute(trained_run, path, tmp_path / "out")


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
    assert "How far the estimates can be trusted" in page
    texts, numbers = (
        re.findall(rf"<td{attribute}>([^<]*)</td>", page) for attribute in ("", ' class="n"')
    )
    assert texts
    assert all(re.search("[a-z]", text) for text in texts)  # names of metrics, on the left
    assert len(numbers) > len(texts)
    assert not any(re.search("[a-z]", number) for number in numbers)
    assert '<th scope="col">metric</th><th scope="col" class="n">value</th>' in page
    assert "80% regions hold the truth in" not in result.stderr  # two samples have no such region
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


@pytest.mark.filterwarnings("ignore:.*unused column 'note'")
def test_wanted_modalities_alone_are_filled_and_others_are_not_added(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m").with_name("some.csv")
    path.write_text("note,left,third\n=1+1,1.txt,\n' x ,,2.txt\n")
    filled = impute(trained_run, path, tmp_path / "default", 2)
    assert [cell["modality"] for cell in read_filled(filled.parent)] == ["third", "left"]
    wanted = impute(trained_run, path, tmp_path / "wanted", 2, want=["right", "third"])
    assert {cell["modality"] for cell in read_filled(wanted.parent)} == {"right", "third"}
    rows = read_manifest(trained_run, wanted)
    assert rows.columns == ("note", "left", "third", "right")
    assert rows.present.tolist() == [[True, True, True], [False, True, True]]
    assert [cells["note"] for cells in rows.cells] == ["=1+1", "' x "]
    with pytest.raises(SpecError, match=r"has no modality 'rihgt'.*did you mean 'right'"):
        impute(trained_run, path, tmp_path / "typo", want=["rihgt"])


def test_cells_hold_the_best_estimate_or_a_sample(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m", missing=True)
    out = tmp_path / "out"
    best = read_manifest(trained_run, impute(trained_run, path, out, 3)).cells
    sample = read_manifest(trained_run, impute(trained_run, path, out, 3, fill="draw")).cells
    row = {row_id: index for index, row_id in enumerate(read_manifest(trained_run, path).ids)}
    cells = read_filled(out)
    for cell in cells:
        assert best[row[cell["id"]]][cell["modality"]] == cell["estimate"]
        assert sample[row[cell["id"]]][cell["modality"]] == cell["alternatives"][0]
    # The mean of three samples is none of them; without a summary the estimate is one of them.
    assert all(
        (cell["estimate"] in cell["alternatives"]) == (not cell["summary"]) for cell in cells
    )
    with (out / "estimates.csv").open(newline="") as file:
        estimates = list(csv.DictReader(file))
    assert [each["estimate"] for each in estimates] == [cell["estimate"] for cell in cells]
    assert [float(each["spread"]) for each in estimates] == [cell["spread"] for cell in cells]


def test_held_out_cells_are_hidden_like_the_gaps(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m", missing=True)
    filled = impute(trained_run, path, tmp_path / "out", 9, held_out=30)
    checked = read_held_out(filled.parent)
    assert checked is not None
    assert (checked["split"], checked["samples"]) == ("test", 9)
    assert set(checked["modalities"]) == {"left", "right", "third"}
    for scores in checked["modalities"].values():
        assert 0 < scores["cells"] <= 30
        assert [region["expected"] for region in scores["coverage"]] == [0.5, 0.8, 0.9]
        assert scores["error"] > 0
        assert scores["spread"] > 0
    assert read_held_out(impute(trained_run, path, tmp_path / "none", 2, held_out=0).parent) is None


def test_a_check_of_another_number_of_held_out_rows_replaces_the_earlier_one(
    trained_run: TrainedRun,
    write_manifest: WriteManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_manifest(tmp_path / "m", missing=True)

    def check(held_out: int) -> Any:
        impute(trained_run, path, tmp_path / "out", 2, held_out=held_out)
        return read_held_out(tmp_path / "out")

    few, many = check(5), check(30)
    assert (few["limit"], many["limit"]) == (5, 30)
    assert few["modalities"]["left"]["cells"] < many["modalities"]["left"]["cells"]
    with monkeypatch.context() as patch:
        patch.delattr("mld.inference.impute.check_held_out_cells")
        assert check(30) == many
    assert check(0) is None
    assert check(5) == few
