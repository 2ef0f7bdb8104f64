"""Samples for each row of a manifest, in a table or in files: the same bits for any number."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

import mld
from mld.inference.sample_folder import write_samples
from mld.inference.sample_table import sample_request, sample_table
from mld.inference.samples import SampleBlock, SampleRequest
from mld.inference.trained_run import TrainedRun
from mld.pipeline.joint_method import Conditioning
from mld.runtime.seeds import derive
from mld_core import DataError, OutputError, SpecError

WriteManifest = Callable[..., Path]


@pytest.fixture
def manifest(write_manifest: WriteManifest, tmp_path: Path) -> Path:
    """40 rows, some of which lack cells of `left`, `right` and `third`."""
    return write_manifest(tmp_path / "m", missing=True)


def read(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore:.*rows have no cell")
def test_a_table_has_samples_of_every_row(
    trained_run: TrainedRun, manifest: Path, tmp_path: Path
) -> None:
    table = sample_table(trained_run, manifest, tmp_path / "deep" / "out.csv", ["right"], 3)
    rows = read(table)
    assert [*rows[0]] == ["id", "sample", "right"]
    assert [(row["id"], row["sample"]) for row in rows] == [
        (f"r{row}", str(k)) for row in range(40) for k in range(3)
    ]
    right = trained_run.modalities["right"]
    items = torch.stack([right.preprocess(right.read(row["right"])) for row in rows])
    given = [int(row["id"][1:]) for row in rows]
    labels = torch.tensor([row % 10 for row in given])
    has_any = torch.tensor([row != 0 for row in given])
    predicted = trained_run.classifiers["right"](items).argmax(1)
    assert float((predicted == labels)[has_any].double().mean()) > 0.7
    assert [path.name for path in (tmp_path / "deep").iterdir() if path.suffix != ".samples"] == [
        "out.csv"
    ]
    folder = tmp_path / "deep" / "out.samples"
    record = json.loads((folder / "given.json").read_text())
    assert record["given"] == {"manifest": str(manifest), "rows": 40}
    assert not (folder / "right").exists()


@pytest.mark.filterwarnings("ignore:.*rows have no cell")
@pytest.mark.usefixtures("rounding_by_batch")
def test_samples_do_not_depend_on_their_number_or_on_an_interruption(
    trained_run: TrainedRun, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = read(sample_table(trained_run, manifest, tmp_path / "many.csv", ["right", "left"], 40))
    draw, drawn = SampleRequest.batch, []

    def interrupted(self: SampleRequest, block: SampleBlock) -> object:
        drawn.append(block)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return draw(self, block)

    monkeypatch.setattr(SampleRequest, "batch", interrupted)
    out = tmp_path / "few.csv"
    with pytest.raises(KeyboardInterrupt):
        sample_table(trained_run, manifest, out, ["right", "left"], 3)
    assert not out.exists()
    sample_table(trained_run, manifest, out, ["right", "left"], 3)
    assert len({(tuple(block.rows), block.samples) for block in drawn}) == len(drawn) - 1
    few = read(out)
    assert len(few) == 120
    by_key = {(row["id"], row["sample"]): row for row in many}
    for row in few:
        same = by_key[row["id"], row["sample"]]
        assert row["right"] == same["right"]
        assert (tmp_path / row["left"]).read_bytes() == (tmp_path / same["left"]).read_bytes()
    count = len(drawn)
    assert read(sample_table(trained_run, manifest, out, ["right", "left"], 2)) == [
        row for row in few if row["sample"] != "2"
    ]
    assert len(drawn) == count
    sample_table(trained_run, manifest, out, ["right", "left"], 40)
    assert [row["right"] for row in read(out)] == [row["right"] for row in many]


def test_a_row_is_sampled_given_what_it_has_recorded(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m")
    request = sample_request(trained_run, path, ["right"], seed=5)
    (block,) = request.blocks(1)
    samples = request.batch(block)
    assert samples.given == ("left", "third")
    given = Conditioning({}, {name: request.rows.latents[name][[7]] for name in samples.given})
    alone = trained_run.generator.sample(given, ["right"], [derive(5, "sample", "r7", 0)])
    assert torch.allclose(samples.latents["right"][7], alone.latents["right"][0], atol=1e-4)


def test_wanted_cells_are_not_read(trained_run: TrainedRun, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("left,right,third\nabsent.txt,1 2 3 4 5 6,\n,2 2 3 4 5 6,nowhere.txt\n")
    table = sample_table(trained_run, path, tmp_path / "out.jsonl", ["left", "third"], 2)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [[row["id"], row["sample"]] for row in rows] == [
        ["rows.csv:2", 0],
        ["rows.csv:2", 1],
        ["rows.csv:3", 0],
        ["rows.csv:3", 1],
    ]
    assert rows[3]["third"] == "out.samples/third/00001-0001.txt"
    assert (tmp_path / rows[3]["third"]).is_file()
    with pytest.raises(DataError, match=r"absent\.txt cannot be read"):
        sample_table(trained_run, path, tmp_path / "other.csv", ["third"])
    assert not (tmp_path / "other.samples").exists()


def test_wanted_are_by_default_what_no_row_has(trained_run: TrainedRun, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("right,left\n1 2 3 4 5 6,\n,\n")
    with pytest.warns(UserWarning, match="1 of 2 rows have no cell to condition samples on"):
        request = sample_request(trained_run, path)
    assert request.wanted == ["left", "third"]
    with pytest.raises(SpecError, match=r"no modality 'rihgt'.*did you mean 'right'"):
        sample_request(trained_run, path, ["rihgt"])


def test_a_table_without_a_manifest(trained_run: TrainedRun, tmp_path: Path) -> None:
    given = {"left": torch.zeros(6)}
    table = mld.sample_table(trained_run, given, tmp_path / "a.csv", n=3, out=tmp_path / "files")
    rows = read(table)
    assert [*rows[0]] == ["sample", "right", "third"]
    assert [row["sample"] for row in rows] == ["0", "1", "2"]
    assert [row["right"] for row in rows] == trained_run.sample(given, n=3).cells("right")
    assert rows[2]["third"] == "files/third/0002.txt"
    assert not (tmp_path / "files" / "right").exists()
    # The same samples may be wanted as files, too.
    write_samples(trained_run.sample_request(given), tmp_path / "files", 3)
    assert len([*(tmp_path / "files" / "right").iterdir()]) == 3


def test_a_table_replaces_nothing_of_the_users(
    trained_run: TrainedRun, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path, table = write_manifest(tmp_path / "m"), tmp_path / "out.csv"
    with pytest.raises(OutputError, match="is what the command reads"):
        sample_table(trained_run, path, path, ["right"])
    with pytest.raises(OutputError, match=r"must be named \*\.csv, \*\.tsv or \*\.jsonl"):
        sample_table(trained_run, path, tmp_path / "out.txt", ["right"])
    table.write_text("mine\n")
    with pytest.raises(OutputError, match="exists and is not overwritten"):
        sample_table(trained_run, path, table, ["right"], overwrite=True)
    table.unlink()
    sample_table(trained_run, path, table, ["right"])
    before = table.read_bytes()
    with pytest.raises(OutputError, match="seed: 0 -> 1"):
        sample_table(trained_run, path, table, ["right"], seed=1)
    assert table.read_bytes() == before
    sample_table(trained_run, path, table, ["right", "left"], seed=1, overwrite=True)
    assert [*read(table)[0]] == ["id", "sample", "right", "left"]


def test_sample_command_with_a_manifest(
    mld: Callable[..., Result], finished_run: Path, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    path = write_manifest(tmp_path / "m")
    words = ("sample", finished_run, "--given-manifest", path, "--want", "right", "-n", 2)
    result = mld(*words, "--table", "out.csv")
    assert (result.exit_code, result.stdout) == (0, "out.csv\n"), result.output
    assert result.stderr.startswith("80 samples, ")
    assert len(read(Path("out.csv"))) == 80
    printed = json.loads(mld(*words, "--out", "files", "--json").stdout)
    assert (printed["out"], printed["samples"]) == ("files", 80)
    assert len([*Path("files/right").iterdir()]) == 80
    for more, message in (
        (("--given", "left=a.txt"), "use either --given or --given-manifest"),
        (("--table", "out.txt"), "--table must be named *.csv, *.tsv or"),
    ):
        result = mld(*words, *more)
        assert result.exit_code == 2
        assert message in result.stderr
