"""The benchmark of mld's own speed: its arithmetic, and its tables with hardly any effort."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from mld.config.spec import load_spec
from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.storage.files import append_line, with_checksum
from mld.storage.run_dir import RunDir
from mld.storage.stages import STAGE_NAMES
from mld.storage.weight_store import WeightStore
from mld.training.job import Objective, TrainConfig, TrainJob
from mld_core import Registry
from mld_core.diffusion.samplers import SAMPLERS

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def import_script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of benchmarks/ by its name."""
    # speed.py sets it unless it is set.
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def workload(import_script: Any) -> ModuleType:
    module: ModuleType = import_script("workload")
    return module


class Linear(Objective):
    """The mean output of one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 5)

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.layer(batch["x"]).mean(), {}


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    compute = Compute("cpu", 1, "32-true", 1)
    return RunContext(RunDir(tmp_path / "run"), WeightStore(tmp_path / "store"), compute, seed=0)


@pytest.fixture
def training(workload: ModuleType, context: RunContext) -> Any:
    rows = {"x": torch.ones(30, 7)}
    config = TrainConfig(steps=9, batch_size=20, learning_rate=0.1)
    job = TrainJob("linear", Linear(), rows, {"x": rows["x"][:0]}, config, key={})
    return workload.Training("linear", job, context)


def test_operations_of_a_linear_layer(training: Any) -> None:
    """Two per weight forwards and two for its gradient; the input needs none."""
    assert training.flops_per_row() == 4 * 7 * 5


def test_rate_is_that_between_the_first_and_the_last_event(
    training: Any, workload: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(job: TrainJob, context: RunContext, checkpoint_seconds: float) -> None:
        lines = [
            {"event": "train", "step": 2, "time": "2026-01-01T00:00:01.000+00:00"},
            {"event": "warning", "time": "2026-01-01T00:00:02.000+00:00"},
            {"event": "train", "step": 10, "time": "2026-01-01T00:00:03.500+00:00"},
        ]
        for line in lines:
            append_line(context.run_dir.events, with_checksum(line))

    monkeypatch.setattr(workload, "train", train)
    assert training.rate(10) == (10 - 2) * 20 / 2.5


def test_rate_of_the_training_loop_needs_three_steps(training: Any, context: RunContext) -> None:
    assert 0 < training.rate(3) < math.inf
    assert not context.run_dir.path.exists()


def test_measurements_take_turns(workload: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []

    def measure(name: str) -> int:
        calls.append(name)
        return len(calls)

    measurements = {"a": lambda: measure("a"), "b": lambda: measure("b")}
    assert workload.take_turns("letters", measurements, 2) == {"a": [1, 3], "b": [2, 4]}
    assert calls == ["a", "b", "a", "b"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "letters, round 2 of 2" in captured.err


def test_ratio_compares_within_a_round(workload: ModuleType) -> None:
    """Not the ratio of the medians, which is 3."""
    assert workload.ratio([2, 20, 9], [1, 10, 3]) == 2


def test_stages_of_a_run(import_script: Any, context: RunContext) -> None:
    run_dir = context.run_dir
    run_dir.log("store", job="autoencode/digit", state="reused")
    for number, name in enumerate(STAGE_NAMES):
        run_dir.mark_complete(name, {}, [], seconds=float(number))
    table = import_script("speed").stage_table(run_dir.path)
    assert [row["stage"] for row in table] == [*STAGE_NAMES, "all"]
    assert [row["s"] for row in table] == [0, 1, 2, 3, 4, 5, 6, 21]
    assert table[2]["share"] == 2 / 21
    reused = {row["stage"]: row["trainings reused"] for row in table if row["trainings reused"]}
    assert reused == {"autoencode": 1, "all": 1}


@pytest.mark.slow
@pytest.mark.long
def test_tables_are_complete(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    command = [sys.executable, str(BENCHMARKS / "speed.py"), "--quick", "--json", str(file)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    tables = json.loads(file.read_text())
    lines = process.stdout.splitlines()
    assert [line for line in lines if line[:1] == "#"] == [f"## {title}" for title in tables]
    assert tables.pop("Stages") == []
    assert any(line.startswith("Not measured") for line in lines)

    names = {title: [next(iter(row.values())) for row in rows] for title, rows in tables.items()}
    demo = load_spec(BENCHMARKS / "digits.yaml", Registry())
    trainings = ["score network", *(f"autoencoder {name}" for name in demo.modalities)]
    trainings += [f"image autoencoder, {size} pixels" for size in (64, 128)]
    assert list(dict.fromkeys(names["Training"])) == trainings
    assert names["Sampling"] == [sampler for sampler in SAMPLERS for _ in range(2)]
    assert names["Start-up"][0] == "import torch"
    assert len(names["Start-up"]) == 5
    assert len(names["Side by side"]) == 5
    assert any("matrix peak, float32" in name for name in names["Machine"])
    for row in tables["Training"]:
        assert row["GFLOP/s"] == pytest.approx(row["MFLOP/row"] * row["rows/s"] / 1000)
    for title, rows in tables.items():
        for row in rows:
            assert any(line.startswith(f"| {next(iter(row.values()))} |") for line in lines)
            for column, value in row.items():
                if value is None:
                    assert row["method"] == "mld, autoencoders", "these do not sample"
                    assert column in ("NFE", "ms/sample", "ms/sample, ratio")
                elif not isinstance(value, str):
                    assert 0 < value < math.inf, (title, row, column)
