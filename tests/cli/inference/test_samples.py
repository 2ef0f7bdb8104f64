"""Samples in a folder: the same bits whatever their number, never mixed with other files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from mld.inference.samples import FIRST_BATCH_SIZE, MAX_BATCH_SIZE, SampleRequest, batches_of
from mld.inference.trained_run import TrainedRun
from mld_core import OutputError, SpecError

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
    request_.write(tmp_path / "whole", 70)
    draw, drawn = SampleRequest.batch, []

    def interrupted(self: SampleRequest, rows: range) -> object:
        drawn.append(rows.start)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(self, rows)

    monkeypatch.setattr(SampleRequest, "batch", interrupted)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        request_.write(out, 40)
    assert len(contents(out / "left")) == 32
    (out / "left" / "0003.txt").unlink()
    written = request_.write(out, 40)
    assert drawn == [0, 32, 0, 32]
    assert [row["row"] for row in written] == [*range(40)]
    assert [row["files"]["left"] for row in written][3] == "left/0003.txt"
    assert len(request_.write(out, 2)) == 2
    assert drawn == [0, 32, 0, 32]
    request_.write(out, 70)
    files, expected = contents(out), contents(tmp_path / "whole")
    assert files.pop("samples.jsonl") != expected.pop("samples.jsonl")
    assert files == expected


def test_other_samples_are_not_mixed_in(
    trained_run: TrainedRun, request_: SampleRequest, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SpecError, match="not middle"):
        trained_run.sample_request(GIVEN, ["middle"]).write(out, 1)
    request_.write(out, 1)
    before = contents(out)
    for other in (
        trained_run.sample_request({"right": "4 0 4 0 5 1"}),
        trained_run.sample_request(GIVEN, ["left"]),
        trained_run.sample_request(GIVEN, seed=1),
        trained_run.sample_request(GIVEN, guidance=2.0),
    ):
        with pytest.raises(OutputError, match="out holds samples of another run, request or s"):
            other.write(out, 1)
    with pytest.raises(OutputError, match="out holds samples: choose another folder"):
        trained_run.sample(GIVEN).write(out)
    assert contents(out) == before
    (out / "samples.jsonl").unlink()
    with pytest.raises(OutputError, match="out holds samples of another"):
        request_.write(out, 1)


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
    assert mld("sample", finished_run, "--out", finished_run).exit_code == 6

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SampleRequest, "batch", interrupted)
    result = mld(*words, "-n", 40)
    assert result.exit_code == 130
    assert result.stderr == "interrupted; re-run the same command to resume\n"
