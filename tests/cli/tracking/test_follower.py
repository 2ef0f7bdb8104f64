"""A run's event log in a tracker: every number once, whatever happens to process and tracker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mld.config.plugin_sections import TrackSpec
from mld.storage.run_dir import RunDir
from mld.tracking import follower
from mld.tracking.scalars import RUN, scalars_of, valid_events
from mld_core import SampleFile, Scalars, TrackedRun, Tracker, TrackerConfig


class Recorder(Tracker):
    """Keeps what it is given; `fails` at one of its methods."""

    kind = "recorder"
    Config = TrackerConfig
    runs: ClassVar[dict[str, list[Scalars]]] = {}
    names: ClassVar[list[str]] = []
    fails: ClassVar[str] = ""
    samples: ClassVar[list[SampleFile]] = []
    hangs: ClassVar[threading.Event | None] = None
    knows: ClassVar[bool] = False

    def __init__(self, config: TrackerConfig, run: TrackedRun) -> None:
        super().__init__(config, run)
        self._call("open")
        self.names.append(run.name)
        self.logged = self.runs.setdefault(run.key, [])

    def _call(self, name: str) -> None:
        if self.fails == name:
            raise SystemExit(f"{name} is out of reach")
        if self.hangs:
            self.hangs.wait()

    def last_steps(self) -> Mapping[str, int] | None:
        if not self.knows:
            return None
        return {name: each.step for each in self.logged for name in each.values}

    def log(self, scalars: Sequence[Scalars]) -> None:
        self._call("log")
        self.logged += scalars

    def log_samples(self, samples: Sequence[SampleFile]) -> None:
        self.samples.extend(samples)

    def flush(self) -> None:
        self._call("flush")

    def close(self) -> None:
        self._call("close")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(follower, "POLL_SECONDS", 0.01)
    for name, value in {"runs": {}, "names": [], "samples": []}.items():
        monkeypatch.setattr(Recorder, name, value)
    return Recorder


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


@pytest.fixture
def following(recorder: type[Recorder], run_dir: RunDir) -> Callable[[], Any]:
    @contextmanager
    def following() -> Iterator[None]:
        spec = TrackSpec(kind="recorder", config=TrackerConfig())
        with follower.tracked(spec, recorder, run_dir, "digits", {"name": "digits"}):
            yield

    return following


def train(run_dir: RunDir, job: str, steps: Sequence[int], loss: float = 0.5) -> None:
    for step in steps:
        run_dir.log(
            "train",
            job=job,
            step=step,
            steps=100,
            loss=loss + step,
            parts={"a": 0.25, "b": 0.75} if job == "diffuse" else {"a": 1.0},
            validation=loss if step % 20 == 0 else None,
            rate=10.0,
        )


def logged(recorder: type[Recorder], run: int = -1) -> list[tuple[str, int, float]]:
    scalars = list(recorder.runs.values())[run]
    return [(name, each.step, value) for each in scalars for name, value in each.values.items()]


def test_the_numbers_of_events(run_dir: RunDir) -> None:
    train(run_dir, "diffuse", [20])
    with run_dir.stage("encode"):
        pass
    run_dir.log("warning", stage="data", message="x")
    events = run_dir.read_events()
    first, *others = [scalars_of(event) for event in events]
    assert first is not None
    assert (first.group, first.step) == ("diffuse", 20)
    assert first.values == {
        "diffuse/loss": 20.5,
        "diffuse/validation loss": 0.5,
        "diffuse/rows per second": 10.0,
        "diffuse/loss of a": 0.25,
        "diffuse/loss of b": 0.75,
    }
    assert abs(first.time - time.time()) < 60
    assert [each.values.keys() for each in others if each] == [{f"{RUN}/seconds of encode"}]
    assert all(
        isinstance(value, float) for each in others if each for value in each.values.values()
    )


@pytest.mark.parametrize("knows", [False, True])
def test_a_resumed_run_goes_on_with_the_same_curves(
    run_dir: RunDir,
    following: Callable[[], Any],
    recorder: type[Recorder],
    knows: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "knows", knows)
    with following():
        train(run_dir, "autoencode/a", [10, 20, 30])
    with run_dir.events.open("ab") as file:
        file.write(b'{"time": "2026-01-01T00:0')  # as a killed process leaves it
    if knows:  # the record was lost with the process
        run_dir.tracking("recorder.json").write_text("{")
        key = next(iter(recorder.runs))
        monkeypatch.setattr(follower.uuid, "uuid4", lambda: type("", (), {"hex": key}))
    with following():
        train(run_dir, "autoencode/a", [20, 30, 40])
        train(run_dir, "diffuse", [10])
    assert len(recorder.runs) == 1
    numbers = logged(recorder)
    losses = [step for name, step, _ in numbers if name == "autoencode/a/loss"]
    assert losses == [10, 20, 30, 40]
    assert len({(name, step) for name, step, _ in numbers}) == len(numbers)
    assert ("diffuse/loss of a", 10, 0.25) in numbers
    with following():
        pass
    assert logged(recorder) == numbers


def test_a_run_that_was_not_tracked_is_handed_on_whole(
    run_dir: RunDir, following: Callable[[], Any], recorder: type[Recorder]
) -> None:
    train(run_dir, "autoencode/a", [10, 20])
    with following():
        train(run_dir, "autoencode/a", [30])
    assert [step for name, step, _ in logged(recorder) if name.endswith("/loss")] == [10, 20, 30]


def test_recomputed_stages_are_another_run(
    run_dir: RunDir, following: Callable[[], Any], recorder: type[Recorder]
) -> None:
    with following():
        train(run_dir, "autoencode/a", [10])
        train(run_dir, "diffuse", [10, 20])
    run_dir.log("stage", stage="diffuse", state="invalidated", seconds=None)
    with following():
        train(run_dir, "diffuse", [10], loss=7)
    assert recorder.names == ["digits", "digits-2"]
    losses = {(name, step): value for name, step, value in logged(recorder)}
    assert losses["autoencode/a/loss", 10] == 10.5
    assert losses["diffuse/loss", 10] == 17
    assert ("diffuse/loss", 20) not in losses
    assert valid_events(run_dir.read_events())[1] == 1


@pytest.mark.parametrize("method", ["open", "log", "flush", "close"])
def test_a_tracker_that_fails_is_one_warning(
    run_dir: RunDir,
    following: Callable[[], Any],
    recorder: type[Recorder],
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "fails", method)
    message = f"'recorder' failed: SystemExit: {method}"
    with pytest.warns(UserWarning, match=message) as warned, following():
        train(run_dir, "diffuse", [10, 20])
    assert len(warned) == 1
    monkeypatch.setattr(recorder, "fails", "")
    if method == "log":  # what it did not get it gets when the run is resumed
        with following():
            pass
        assert [step for name, step, _ in logged(recorder) if name == "diffuse/loss"] == [10, 20]


def test_a_tracker_that_hangs_is_left_alone(
    run_dir: RunDir,
    following: Callable[[], Any],
    recorder: type[Recorder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(recorder, "hangs", hangs)
    monkeypatch.setattr(follower, "CLOSE_SECONDS", 0.05)
    with pytest.warns(UserWarning, match="did not end within"), following():
        train(run_dir, "diffuse", [10])
    hangs.set()
    for thread in threading.enumerate():
        if thread.name == "tracker recorder":
            thread.join()


def test_what_a_tracker_prints_is_no_result(
    run_dir: RunDir,
    following: Callable[[], Any],
    recorder: type[Recorder],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(recorder, "log", lambda *_: print("hello"))
    with following():
        train(run_dir, "diffuse", [10])
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")


def test_scores_and_samples_of_a_finished_run(
    finished_run: Path, tmp_path: Path, recorder: type[Recorder], following: Callable[[], Any]
) -> None:
    import shutil

    shutil.copytree(finished_run, tmp_path / "run")
    run_dir = RunDir(tmp_path / "run")
    with following():
        pass
    numbers = {name: value for name, _, value in logged(recorder)}
    metrics = run_dir.read_json(run_dir.metrics)
    assert numbers["run/joint_coherence"] == metrics["joint_coherence"]["value"]
    for row in metrics["frechet"]:
        given = " and ".join(row["given"]) or "nothing"
        assert numbers[f"run/frechet/{given} to {row['target']}"] == row["value"]
    names = {sample.name for sample in recorder.samples}
    assert "samples/left/right/0000" in names
    assert "samples/left/left/0000" not in names
    count = len(recorder.samples)
    with following():
        pass
    assert len(recorder.samples) == count


def test_the_tracker_of_the_docs(run_dir: RunDir) -> None:
    page = (Path(__file__).parents[3] / "docs" / "tracking.md").read_text()
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    (plugin,) = names["register_trackers"]()
    train(run_dir, "autoencode/a", [20])
    spec = TrackSpec(kind="lines", config=plugin.Config())
    with follower.tracked(spec, plugin, run_dir, "digits", {}):
        pass
    lines = (run_dir.tracking("lines") / "digits" / "lines.txt").read_text().splitlines()
    assert "autoencode/a/loss 20 20.5" in lines
