from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from mld.data.packed_items import Items
from mld.data.stored_rows import MappedTensor
from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training import shared_files
from mld.training.job import Objective, TrainConfig, TrainJob
from mld.training.shared_files import SharedFiles
from mld.training.train import train
from mld_core.errors import RunDirError


class Mean(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(2))

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (batch["x"] - self.centre).square().mean()
        return loss, {"x": loss}


@pytest.fixture
def job() -> TrainJob:
    rows = {"x": torch.ones(8, 2)}
    return TrainJob("diffuse", Mean(), rows, rows, TrainConfig(2, 4, 0.1), {})


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    monkeypatch.setattr(shared_files, "SHARED_SECONDS", 0.0)
    run_dir, compute = RunDir(tmp_path / "run"), Compute("cpu", 1, "32-true", 1)
    return RunContext(run_dir, WeightStore(tmp_path / "store"), compute, 0)


def test_another_folder_is_named(job: TrainJob, context: RunContext, tmp_path: Path) -> None:
    with context.run_dir.lock():
        files = SharedFiles.of(job, context)
        files.wait(job, context)
        elsewhere = replace(context, run_dir=RunDir(tmp_path / "elsewhere"))
        with pytest.raises(RunDirError, match=r"elsewhere is another folder .* all nodes share"):
            files.wait(job, elsewhere)
        with elsewhere.run_dir.lock(), pytest.raises(RunDirError, match="another folder"):
            files.wait(job, elsewhere)


def test_another_checkpoint_is_named(job: TrainJob, context: RunContext) -> None:
    before = SharedFiles.of(job, context)
    train(job, context)
    with pytest.raises(RunDirError, match=r"diffuse\.safetensors is of step 2, and of step 0 in"):
        before.wait(job, context)
    SharedFiles.of(job, context).wait(job, context)


def test_missing_items_are_named(job: TrainJob, context: RunContext, tmp_path: Path) -> None:
    x, path = torch.ones(8, 2), tmp_path / "items"
    items = Items(None, MappedTensor.write(x, path), torch.arange(8))
    with_items = replace(job, rows={"x": items})
    files = SharedFiles.of(with_items, context)
    files.wait(with_items, context)
    path.unlink()
    with pytest.raises(RunDirError, match=r"items is missing: .*MLD_STORE"):
        files.wait(with_items, context)
