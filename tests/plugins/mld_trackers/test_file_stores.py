"""TensorBoard's event files and MLflow's files, read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mld.storage.run_dir import RunDir
from mld.tracking.scalars import scalars_of
from mld_core import Registry, SampleFile, Scalars, TrackedRun, Tracker

Numbers = Counter[tuple[str, int, float]]
READ_MLFLOW = Path(__file__).parent / "read_mlflow.py"
SMALL_RUN = Path(__file__).parents[2] / "cli" / "plugins" / "small_run.py"


def of_tensorboard(folder: Path) -> Numbers:
    """All scalars of the event files of a run's own folder, rounded to float32."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = (folder / "run" / "tracking" / "tensorboard").iterdir()
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    return Counter(
        (tag, event.step, single(event.value)) for tag in tags for event in events.Scalars(tag)
    )


def of_mlflow(folder: Path) -> Numbers:
    """All metrics of the only run in MLflow's files.

    Read in a process of its own: MLflow's libraries change how others find installed packages.
    """
    command = [sys.executable, READ_MLFLOW, (folder / "mlruns").as_uri()]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    status, *rows = map(json.loads, output.splitlines())
    assert status == "FINISHED"
    return Counter((name, step, single(value)) for name, step, value in rows)


def single(value: float) -> float:
    """A number as TensorBoard keeps it."""
    import numpy as np

    return float(np.float32(value))


def of_log(run_dir: RunDir) -> dict[tuple[str, int], set[float]]:
    """The numbers of an event log; those of a step that was repeated may differ."""
    numbers: dict[tuple[str, int], set[float]] = {}
    for scalars in filter(None, map(scalars_of, run_dir.read_events())):
        for name, value in scalars.values.items():
            numbers.setdefault((name, scalars.step), set()).add(single(value))
    return numbers


READERS: dict[str, Callable[[Path], Numbers]] = {"tensorboard": of_tensorboard, "mlflow": of_mlflow}


@pytest.fixture(autouse=True)
def _file_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # quicker than a database


@pytest.fixture
def open_tracker(tmp_path: Path) -> Callable[[], Tracker]:
    """Opens TensorBoard for always the same run."""

    def open_tracker() -> Tracker:
        plugin = Registry().tracker("tensorboard")
        folder = tmp_path / "run" / "tracking" / "tensorboard" / "digits"
        return plugin(plugin.Config(), TrackedRun("digits", "k1", folder, {"name": "digits"}))

    return open_tracker


def test_a_run_that_is_opened_again(open_tracker: Callable[[], Tracker], tmp_path: Path) -> None:
    tracker = open_tracker()
    assert tracker.last_steps() == {}
    tracker.log([Scalars("a/b", step, {"a/b/loss": step / 3}, 1.7e9 + step) for step in (1, 2)])
    tracker.flush()  # and the process is killed
    again = open_tracker()
    assert again.last_steps() == {"a/b/loss": 2}
    again.log([Scalars("a/b", 3, {"a/b/loss": 0.5, "a/b/loss of x-y": 2.0}, 1.7e9)])
    again.close()
    tracker.close()
    expected = {("a/b/loss", 1, 1 / 3), ("a/b/loss", 2, 2 / 3), ("a/b/loss", 3, 0.5)}
    expected |= {("a/b/loss of x-y", 3, 2.0)}
    assert of_tensorboard(tmp_path) == Counter((n, step, single(v)) for n, step, v in expected)


def samples(folder: Path) -> Iterator[SampleFile]:
    from PIL import Image

    Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / "x.png")
    with wave.open(str(folder / "x.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(800))
    (folder / "x.txt").write_text("seven")
    yield SampleFile("samples/joint/digit/0000", folder / "x.png", None)
    yield SampleFile("samples/joint/tone/0000", folder / "x.wav", None)
    yield SampleFile("samples/joint/word/0000", folder / "x.txt", "seven")


def test_samples_and_the_spec(open_tracker: Callable[[], Tracker], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = open_tracker()
    tracker.log_samples(list(samples(tmp_path)))
    tracker.close()
    events = EventAccumulator(str(tmp_path / "run" / "tracking" / "tensorboard" / "digits"))
    events.Reload()
    tags = events.Tags()
    assert tags["images"] == ["samples/joint/digit/0000"]
    assert tags["audio"] == ["samples/joint/tone/0000"]
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0] for tag in tags["tensors"]}
    assert texts["samples/joint/word/0000/text_summary"] == b"seven"
    assert b'"name": "digits"' in texts["spec/text_summary"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tensorboard", pytest.param("mlflow", marks=pytest.mark.long)])
def test_a_run_that_was_killed_twice(kind: str, tmp_path: Path) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(_spec())
    command = [sys.executable, SMALL_RUN, spec, tmp_path / "run", tmp_path / "store"]
    command += [f"track.kind={kind}", "diffuse.steps=100", "evaluate.steps=20"]
    if kind == "mlflow":
        command.append(f"track.uri={(tmp_path / 'mlruns').as_uri()}")
    run_dir = RunDir(tmp_path / "run")
    record, events = run_dir.tracking(f"{kind}.json"), 6
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Killed after the tracker was handed something, while a network trains.
        while not record.exists() or len([*_train_events(run_dir)]) < events:
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        events = len([*_train_events(run_dir)]) + 6
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    numbers, logged = READERS[kind](tmp_path), of_log(run_dir)
    assert max(numbers.values()) == 1
    steps = Counter((name, step) for name, step, _ in numbers)
    assert max(steps.values()) == 1
    from_log = {(n, step, v) for n, step, v in numbers if (n, step) in logged}
    assert all(value in logged[name, step] for name, step, value in from_log)
    assert {(name, step) for name, step, _ in from_log} == {*logged}
    assert "run/joint_coherence" in {name for name, _, _ in numbers}
    if kind == "mlflow":
        (settings,) = (tmp_path / "mlruns").rglob("spec.json")
        assert json.loads(settings.read_text())["name"] == "small"
        assert len([*settings.parent.glob("samples/joint/*/0000/*")]) == 3


def _train_events(run_dir: RunDir) -> Iterator[Any]:
    return (event for event in run_dir.events_after(0)[0] if event["event"] == "train")


def _spec() -> str:
    sys.path.insert(0, str(SMALL_RUN.parent))
    import small_run

    sys.path.remove(str(SMALL_RUN.parent))
    return small_run.SPEC
