"""Trainings that end before their last step: by patience, or by a time limit."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from mld.config.sections import TrainingSpec
from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training.cached import train_cached
from mld.training.checkpoint import TrainingEnd, read_checkpoint
from mld.training.job import Objective, TrainConfig, TrainJob
from mld.training.train import TrainedWeights, train

JOB = "autoencode/digit"
ONE = Compute("cpu", 1, "32-true", 1)
CONFIG = TrainConfig.of_network(
    TrainingSpec(steps=100, batch_size=200, learning_rate=0.01, patience=3)
)


class Regression(Objective):
    """Learns y = x A with dropout; sends SIGINT in one of its steps if that is named."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Dropout(), nn.Linear(16, 2))
        self.interrupt_at, self.calls = interrupt_at, 0

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += self.training
        if self.training and self.calls == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        return (self.net(batch["x"]) - batch["y"]).square().mean(), {}


def rows(count: int, sign: float) -> dict[str, Tensor]:
    x = torch.randn(count, 4, generator=Generator().manual_seed(count))
    return {"x": x, "y": sign * x[:, :2]}


def job(
    config: TrainConfig = CONFIG, interrupt_at: int | None = None, held_out: int = 50
) -> TrainJob:
    """A training whose validation loss soon rises, as its rows have the opposite sign."""
    validation = rows(held_out, -1.0)
    return TrainJob(JOB, Regression(interrupt_at), rows(200, 1.0), validation, config, {})


def context(path: Path, compute: Compute = ONE) -> RunContext:
    return RunContext(RunDir(path), WeightStore(path / "store"), compute, seed=3)


def validations(path: Path) -> dict[int, float]:
    events = [event for event in RunDir(path).read_events() if event["event"] == "train"]
    return {e["step"]: e["validation"] for e in events if e["validation"] is not None}


def equal(a: TrainedWeights, b: TrainedWeights) -> bool:
    return all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_patience_ends_a_training_and_the_best_weights_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = train_cached(job(), context(tmp_path / "patient"))
    losses = validations(tmp_path / "patient")
    steps = list(losses)
    best = min(losses, key=lambda step: losses[step])
    ended = steps[steps.index(best) + 3]
    assert best < ended == steps[-1] < 100
    assert patient.end == TrainingEnd("patience", ended, 100, best)
    line = f"{JOB}: ended after {ended} of 100 steps, as the validation loss fell no more; those of"
    assert line in capsys.readouterr().err
    # As far as it goes, it is the training without patience.
    endless = train(job(replace(CONFIG, patience=None)), context(tmp_path / "endless"))
    assert {step: validations(tmp_path / "endless")[step] for step in steps} == losses
    assert equal(patient, endless)
    # Another run takes the weights from the store, and knows how they came about.
    other = replace(context(tmp_path / "other"), store=WeightStore(tmp_path / "patient" / "store"))
    assert train_cached(job(), other).end == patient.end
    assert not validations(tmp_path / "other")


@pytest.mark.parametrize("validations_after_best", [-0.5, 1.5])
def test_a_resumed_training_loses_its_patience_at_the_same_step(
    tmp_path: Path, validations_after_best: float
) -> None:
    patient = train(job(), context(tmp_path / "patient"))
    assert patient.end is not None
    assert patient.end.best is not None
    between = (patient.end.step - patient.end.best) // 3
    interrupt_at = round(patient.end.best + validations_after_best * between)
    with pytest.raises(KeyboardInterrupt):
        train(job(interrupt_at=interrupt_at), context(tmp_path / "resumed"))
    resumed = train(job(), context(tmp_path / "resumed"))
    assert resumed.end == patient.end
    assert equal(resumed, patient)


def test_patience_without_validation_rows_is_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="patience has no effect"):
        trained = train(job(replace(CONFIG, steps=2), held_out=0), context(tmp_path))
    assert trained.end == TrainingEnd("steps", 2, 2)


def test_the_last_weights_are_kept_on_request(tmp_path: Path) -> None:
    config = replace(CONFIG, keep="last", ema_decay=0.9)
    trained = train(job(config), context(tmp_path))
    assert trained.end is not None
    assert (trained.end.reason, trained.end.best) == ("patience", None)
    run = context(tmp_path)
    checkpoint = read_checkpoint(run.run_dir, JOB, job(config).fingerprint(run))
    assert checkpoint is not None
    assert checkpoint.ema is not None
    assert trained.ema is not None
    assert all(torch.equal(trained.ema[name], x) for name, x in checkpoint.ema.items())


def test_a_time_limit_cuts_a_training_short_which_is_not_stored(tmp_path: Path) -> None:
    config = replace(CONFIG, patience=None, keep="last")
    limited = job(replace(config, time_limit=1e-9))
    run = context(tmp_path / "limited")
    with pytest.warns(UserWarning, match=f"{JOB} was cut short after 1 of 100 steps by time_limit"):
        short = train_cached(limited, run)
    assert short.end == TrainingEnd("time limit", 1, 100)
    assert [*validations(tmp_path / "limited")] == [1]
    assert not [*run.store.root.rglob("*.safetensors")]
    # A training without limit that is stored serves one with a limit.
    other = replace(context(tmp_path / "other"), store=run.store)
    full = train_cached(job(config), other)
    again = replace(context(tmp_path / "again"), store=run.store)
    assert equal(train_cached(limited, again), full)


def test_the_time_of_a_training_is_summed_over_resumes(tmp_path: Path) -> None:
    config = replace(CONFIG, patience=None, keep="last", time_limit=1e6)
    run = context(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(job(config, interrupt_at=7), run)
    checkpoint = read_checkpoint(run.run_dir, JOB, job(config).fingerprint(run))
    assert checkpoint is not None
    assert 0 < checkpoint.seconds < 1e6
    replace(checkpoint, seconds=1e6).write(run.run_dir, JOB)
    assert train(job(config), run).end == TrainingEnd("time limit", checkpoint.step + 1, 100)
