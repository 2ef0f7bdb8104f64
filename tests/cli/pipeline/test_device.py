"""Runs on a device that stands in for a GPU: nothing stays on the processor that networks do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mld.config.spec import load_spec
from mld.conformance.stand_in_device import STAND_IN, StandInDevice
from mld.inference import trained_run
from mld.inference.impute import impute, read_filled
from mld.inference.information import information
from mld.inference.log_density import log_density
from mld.inference.score import score
from mld.pipeline import run as pipeline
from mld.runtime.compute import Compute, resolve
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core.information.estimator import surprisal

NETWORKS = ("addmm", "convolution", "native_layer_norm", "embedding")
"""Operations of networks alone."""
CHECKED_BEFORE = 6
"""Of these, those by which `encode` and `decode` are checked on two rows before any training."""


pytestmark = pytest.mark.slow


@pytest.fixture
def on_stand_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A block in which runs resolve `accelerator: auto` to the stand-in."""

    def resolve_to_stand_in(spec: Any) -> Compute:
        return replace(resolve(spec), accelerator=STAND_IN.type)

    @contextmanager
    def block() -> Iterator[StandInDevice]:
        with monkeypatch.context() as patch, StandInDevice() as device:
            patch.setattr(pipeline, "resolve", resolve_to_stand_in)
            patch.setattr(trained_run, "resolve", resolve_to_stand_in)
            yield device

    return block


def _rounded(number: str) -> float:
    return float(f"{float(number):.9g}")


def assert_networks_were_there(device: StandInDevice, but: int = 0) -> None:
    assert sum(device.calls[name, True] for name in NETWORKS) > 100
    assert sum(device.calls[name, False] for name in NETWORKS) == but


@pytest.mark.parametrize("method", ["mld", pytest.param("relay", marks=pytest.mark.long)])
def test_every_stage_computes_there_and_gives_the_same(
    small_run: Any, finished_run: Path, tmp_path: Path, on_stand_in: Callable[[], Any], method: str
) -> None:
    """Trainings come from the store; all else is computed on the device, to the same bits."""
    registry, store = small_run.registry(), WeightStore(finished_run.parent / "store")
    overrides = [] if method == "mld" else ["diffuse={method: relay, steps: 20}"]
    spec = load_spec(finished_run / "spec.yaml", registry, overrides)
    here, there = RunDir(finished_run), RunDir(tmp_path / "there")
    if overrides:
        here = RunDir(tmp_path / "here")
        pipeline.run(spec, here, registry, store=store)
    with on_stand_in() as device:
        pipeline.run(spec, there, registry, store=store)
    assert_networks_were_there(device, but=CHECKED_BEFORE)
    metrics = [json.loads(run.metrics.read_text(), parse_float=_rounded) for run in (here, there)]
    for each in metrics:
        del each["seconds_per_sample"], each["sha256"]
    assert metrics[0] == metrics[1]
    for path in here.path.rglob("*.safetensors"):
        other = there.path / path.relative_to(here.path)
        assert path.read_bytes() == other.read_bytes(), path


@pytest.mark.long
def test_a_finished_run_computes_there_and_gives_the_same(
    small_run: Any,
    finished_run: Path,
    tmp_path: Path,
    on_stand_in: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`sample`, `score`, `impute`, `information` and a log-density."""
    few_levels = partial(surprisal, nodes=16)
    monkeypatch.setattr("mld.inference.score.surprisal", few_levels)
    monkeypatch.setattr("mld.inference.information.surprisal", few_levels)
    numbers = [f"{k} 0.5 4 0 {k} 0.2" for k in range(3)]
    for k, text in enumerate(numbers):
        (tmp_path / f"{k}.points").write_text(text)
    rows = "".join(f"{k}.points,{text},\n" for k, text in enumerate(numbers))
    manifest = tmp_path / "rows.csv"
    manifest.write_text(f"left,right,third\n{rows}")

    def results(name: str) -> dict[str, Any]:
        run = trained_run.load(finished_run, small_run.registry())
        samples = run.sample({"right": numbers[0]}, n=3)
        impute(run, manifest, tmp_path / name, 3, held_out=5)
        return {
            "items": {key: x.tolist() for key, x in samples.items.items()},
            "score": [row.record() for row in score(run, manifest)],
            "filled": read_filled(tmp_path / name),
            "information": {key: x.value for key, x in information(run, rows=5).items()},
            "density": log_density(run, manifest, ["left"], ["right"]).raw.tolist(),
        }

    expected = results("here")
    with on_stand_in() as device:
        assert results("there") == expected
    assert_networks_were_there(device)
