"""Samples of a browser's session: what is drawn, shown, archived and pinned."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from mld.inference.trained_run import TrainedRun
from mld.serving.session import MAX_SAMPLES, MAX_STEPS, Session, Settings
from mld_core import DataError, SpecError

RIGHT = "4 0 4 0 5 0"


@pytest.fixture(scope="module")
def session(trained_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("archives")
    return Session().generate(trained_run, {"right": RIGHT}, Settings(n=3, seed=2), folder)


def test_samples_are_those_of_the_run(trained_run: TrainedRun, session: Session) -> None:
    samples = trained_run.sample({"right": RIGHT}, n=3, seed=2)
    assert session.samples is not None
    assert session.samples.generated == ["left", "third"]
    for name in ("left", "third"):
        assert torch.equal(session.samples.items[name], samples.items[name])
    assert [len(session.media[name]) for name in ("left", "right", "third")] == [3, 1, 3]
    assert session.media["right"][0][0].source.split()[0].startswith("4")


def test_archive_holds_what_the_run_writes(
    trained_run: TrainedRun, session: Session, tmp_path: Path
) -> None:
    trained_run.sample({"right": RIGHT}, n=3, seed=2).write(tmp_path / "out")
    written = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert session.archive is not None
    assert session.archive.name == "small-samples.zip"
    with ZipFile(session.archive) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    assert files == written
    assert {"left/0002.txt", "given.json"} <= set(files)
    assert json.loads(files["given.json"])["given"] == {"right": RIGHT}


def test_pinned_sample_is_given_as_it_is(
    trained_run: TrainedRun, session: Session, tmp_path: Path
) -> None:
    pinned = session.pin("left", 1)
    assert session.samples is not None
    item = session.samples.items["left"][1]
    assert torch.equal(pinned.pinned["left"], item)
    again = Session().generate(trained_run, pinned.pinned, Settings(n=2), tmp_path)
    assert again.samples is not None
    assert again.samples.given == ("left",)
    assert torch.equal(again.samples.items["left"][0], item)


@pytest.mark.parametrize(("name", "sample"), [("right", 0), ("left", 3), ("left", -1)])
def test_what_is_no_sample_cannot_be_pinned(session: Session, name: str, sample: int) -> None:
    with pytest.raises(SpecError, match="there is no sample"):
        session.pin(name, sample)


def test_nothing_can_be_pinned_at_first() -> None:
    with pytest.raises(SpecError, match="generate it first"):
        Session().pin("left", 0)


def test_new_samples_delete_the_archive_before(trained_run: TrainedRun, tmp_path: Path) -> None:
    first = Session().generate(trained_run, {}, Settings(n=1), tmp_path)
    second = first.generate(trained_run, {}, Settings(n=1, seed=1), tmp_path)
    assert [path.name for path in tmp_path.rglob("*.zip")] == ["small-samples.zip"]
    second.close()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(n=0), "samples must be"),
        (Settings(n=MAX_SAMPLES + 1), "samples must be"),
        (Settings(steps=MAX_STEPS + 1), "steps must be at most"),
        (Settings(steps=0), "steps"),
        (Settings(guidance=float("nan")), "guidance"),
        (Settings(seed=-1), "seed"),
    ],
)
def test_settings_have_limits(
    trained_run: TrainedRun, tmp_path: Path, settings: Settings, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        Session().generate(trained_run, {}, settings, tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_given_data_are_read_as_those_of_a_manifest(
    trained_run: TrainedRun, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="'right'"):
        Session().generate(trained_run, {"right": "four"}, Settings(), tmp_path)
    everything = dict.fromkeys(("left", "third"), trained_run.item("right", RIGHT))
    with pytest.raises(SpecError, match="every modality is given"):
        Session().generate(trained_run, {"right": RIGHT, **everything}, Settings(), tmp_path)
