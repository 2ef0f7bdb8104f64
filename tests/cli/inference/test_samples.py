"""Samples in a folder: the same bits whatever their number, never mixed with other files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import Result

from mld.inference.sample_folder import write_samples
from mld.inference.samples import (
    FIRST_BATCH_SIZE,
    MAX_BATCH_SIZE,
    SampleBlock,
    SampleRequest,
    Samples,
    batches_of,
)
from mld.inference.trained_run import TrainedRun
from mld_core import OutputError, Registry, SpecError

GIVEN = {"right": "4 0 4 0 5 0"}


@pytest.fixture
def request_(trained_run: TrainedRun) -> SampleRequest:
    return trained_run.sample_request(GIVEN)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_batches_do_not_depend_on_the_number_of_samples() -> None:
    all_batches = [*batches_of(5000)]
    assert [row for batch in all_batches for row in batch][:5000] == [*range(5000)]
    assert max(map(len, all_batches)) == MAX_BATCH_SIZE
    for n in (1, 31, 32, 33, 64, 65, 1024, 1025):
        batches = [*batches_of(n)]
        assert batches == all_batches[: len(batches)]
        assert n <= batches[-1].stop <= max(FIRST_BATCH_SIZE, 2 * n)
        for rows in (3, 100, 512):
            batches = [*batches_of(n, rows)]
            assert batches == [*batches_of(5000, rows)][: len(batches)]
            assert n <= batches[-1].stop <= max(FIRST_BATCH_SIZE // rows, 2 * n)
            assert rows * max(map(len, batches)) <= MAX_BATCH_SIZE


@pytest.mark.usefixtures("rounding_by_batch")
def test_a_sample_has_the_same_bits_whatever_their_number(trained_run: TrainedRun) -> None:
    several = trained_run.sample(GIVEN, n=40, seed=2)
    assert several.count == 40
    for n in (1, 33):
        samples = trained_run.sample(GIVEN, n=n, seed=2)
        for name in ("left", "third"):
            assert torch.equal(samples.latents[name], several.latents[name][:n])
            assert torch.equal(samples.items[name], several.items[name][:n])


def test_an_interrupted_request_resumes_and_more_samples_extend_it(
    request_: SampleRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_samples(request_, tmp_path / "whole", 70)
    draw, drawn = SampleRequest.batch, []

    def interrupted(self: SampleRequest, block: SampleBlock) -> object:
        drawn.append(block.samples.start)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(self, block)

    monkeypatch.setattr(SampleRequest, "batch", interrupted)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write_samples(request_, out, 40)
    assert len(contents(out / "left")) == 32
    (out / "left" / "0003.txt").unlink()
    written = list(write_samples(request_, out, 40))
    assert drawn == [0, 32, 0, 32]
    assert [entry["sample"] for entry in written] == [*range(40)]
    assert [entry["files"]["left"] for entry in written][3] == "left/0003.txt"
    assert len(write_samples(request_, out, 2)) == 2
    assert drawn == [0, 32, 0, 32]
    write_samples(request_, out, 70)
    files, expected = contents(out), contents(tmp_path / "whole")
    assert files.pop("samples.jsonl") != expected.pop("samples.jsonl")
    assert files == expected


def test_other_samples_are_not_mixed_in(
    trained_run: TrainedRun, request_: SampleRequest, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SpecError, match="has no modality 'middle'"):
        trained_run.sample_request(GIVEN, ["middle"])
    with pytest.raises(SpecError, match="every modality is given"):
        trained_run.sample_request(GIVEN, [])
    with pytest.raises(SpecError, match="disjoint from"):
        write_samples(trained_run.sample_request(GIVEN, ["right"]), out, 1)
    write_samples(request_, out, 1)
    before = contents(out)
    for other, change in (
        (trained_run.sample_request({"right": "4 0 4 0 5 1"}), "given.right: .* -> .*5 1"),
        (trained_run.sample_request(GIVEN, ["left"]), "want: .*third.* -> "),
        (trained_run.sample_request(GIVEN, seed=1), "seed: 0 -> 1"),
        (trained_run.sample_request(GIVEN, guidance=2.0), "sampling.guidance: 1.0 -> 2.0"),
    ):
        with pytest.raises(
            OutputError, match="(?s)holds samples of another run, r.*--ov.*" + change
        ):
            write_samples(other, out, 1)
    with pytest.raises(OutputError, match="out holds samples: choose another folder"):
        trained_run.sample(GIVEN).write(out)
    assert contents(out) == before
    (out / "given.json").unlink()
    with pytest.raises(OutputError, match="out holds samples of another"):
        write_samples(request_, out, 1)


def test_overwrite_replaces_other_samples(
    trained_run: TrainedRun, request_: SampleRequest, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", trained_run.sample_request(GIVEN, ["left"], seed=1)
    write_samples(request_, out, 3)
    (out / "notes.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(OutputError, match=r"holds 'notes\.txt', which mld has not written"):
        write_samples(other, out, 1, overwrite=True)
    assert contents(out) == before
    (out / "notes.txt").unlink()
    write_samples(other, out, 1, overwrite=True)
    write_samples(other, tmp_path / "new", 1)
    assert contents(out) == contents(tmp_path / "new")
    before = contents(out)
    (out / "left" / "0000.txt").write_text("spoilt")
    write_samples(other, out, 1, overwrite=True)  # the same samples are kept
    assert contents(out) == {**before, "left/0000.txt": b"spoilt"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty and not made by this command"):
        write_samples(other, tmp_path / "mine", 1, overwrite=True)


def test_a_folder_says_what_its_samples_are(
    trained_run: TrainedRun, finished_run: Path, tmp_path: Path
) -> None:
    samples = trained_run.sample({**GIVEN, "left": torch.zeros(6)}, n=2, seed=7, steps=3)
    samples.write(tmp_path / "python")
    record = json.loads((tmp_path / "python" / "given.json").read_text())
    assert record["given"]["right"] == GIVEN["right"]
    assert record["given"]["left"].startswith("tensor [6] ")
    assert (record["run"], record["want"], record["seed"]) == (str(finished_run), ["third"], 7)
    assert record["sampling"] == {"sampler": "dpm-solver++", "steps": 3, "guidance": 1.0}
    assert record["mld"]
    request = trained_run.sample_request({**GIVEN, "left": torch.zeros(6)}, seed=7, steps=3)
    write_samples(request, tmp_path / "folder", 1)
    assert json.loads((tmp_path / "folder" / "given.json").read_text()) == record


def test_samples_and_runs_say_what_they_are(trained_run: TrainedRun, finished_run: Path) -> None:
    kinds = "left (points), right (marks), third (points)"
    assert repr(trained_run) == f"<run {finished_run} of {kinds}>"
    samples = trained_run.sample(GIVEN, n=10)
    assert repr(samples) == "<10 samples of left, third given right>"
    assert repr(trained_run.sample(n=1)) == "<1 sample of left, right, third>"
    html = samples._repr_html_()
    assert html.count("<tr>") == 1 + 8
    assert "<caption>10 samples, 2 not shown</caption>" in html
    assert html.count("<small>given</small>") == 8


def test_notebooks_show_the_pictures_of_samples() -> None:
    image = Registry().modality("image")
    modality = image(image.Config(latent_dim=2, size=8, channels=1))
    (raw,) = modality.examples([3], "train", np.random.default_rng(0))
    items = {"digit": modality.preprocess(raw)[None]}
    samples = Samples({"digit": modality}, items, {}, (), 20, 0.1)
    assert '<img src="data:image/png;base64,' in samples._repr_html_()


def test_sample_command(
    mld: Callable[..., Result], finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("sample", finished_run, "--given", "right=4 0 4 0 5 0", "--out", "out")
    first = mld(*words, "-n", 2)
    assert first.stdout.splitlines()[0] == "out/left/0000.txt"
    again = mld(*words, "-n", 2, "--json")
    assert json.loads(again.stdout)["files"]["left"] == ["out/left/0000.txt", "out/left/0001.txt"]
    other = mld(*words, "--seed", 1)
    assert other.exit_code == 6
    assert other.stderr.startswith("error: out holds samples of another run")
    assert mld(*words, "--seed", 1, "--overwrite").exit_code == 0
    assert mld(*words, "-n", 2, "--overwrite").exit_code == 0
    assert mld("sample", finished_run, "--out", finished_run).exit_code == 6

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SampleRequest, "batch", interrupted)
    result = mld(*words, "-n", 40)
    assert result.exit_code == 130
    assert result.stderr == "interrupted; re-run the same command to resume\n"


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "RUN", "--out", "file"),
        ("sample", "RUN", "--out", "file/deep"),
        ("sample", "RUN", "--out", "new", "--table", "file/a.csv"),
        ("impute", "RUN", "rows.csv", "--out", "file"),
        ("score", "RUN", "rows.csv", "--out", "file/a.csv"),
    ],
)
def test_an_output_in_place_of_a_file(
    mld: Callable[..., Result], finished_run: Path, words: tuple[str, ...]
) -> None:
    Path("file").write_text("mine")
    Path("rows.csv").write_text("right,left\n1 2 3 4 5 6,\n")
    result = mld(*(finished_run if word == "RUN" else word for word in words))
    assert result.exit_code == 6, result.output
    assert " cannot be written: " in result.stderr
    assert "Traceback" not in result.output
    assert Path("file").read_text() == "mine"
