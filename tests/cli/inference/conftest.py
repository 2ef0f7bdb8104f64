"""A finished run of three tiny modalities, and manifests for it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mld.config.spec import load_spec
from mld.inference.trained_run import TrainedRun, load
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Registry
from mld_core.diffusion.sampling import LatentSamples
from mld_core.information.estimator import surprisal

NAMES = ("left", "right", "third")


@pytest.fixture(scope="session")
def train_run(small_run: Any, registry: Registry) -> Callable[..., Path]:
    """Trains a small run into a folder, with overrides of its spec; returns the run directory."""

    def train(folder: Path, *overrides: str) -> Path:
        path = folder / "small.yaml"
        path.write_text(small_run.SPEC)
        spec = load_spec(path, registry, ["generate.num_samples=5", *overrides])
        run(spec, RunDir(folder / "small"), registry, store=WeightStore(folder / "store"))
        return folder / "small"

    return train


@pytest.fixture(scope="session")
def trained_run(finished_run: Path, registry: Registry) -> TrainedRun:
    return load(finished_run, registry)


def numbers(label: int, seed: int) -> str:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor([4.0 * ((label >> bit) & 1) for bit in range(4)] + [label, 0.0])
    return " ".join(f"{v:.4f}" for v in centre + 0.2 * torch.randn(6, generator=generator))


@pytest.fixture(scope="session")
def write_manifest() -> Callable[..., Path]:
    """Writes a manifest of 40 rows: (folder, missing=False, mispaired=0, name="rows.csv").

    The first `mispaired` rows have the `right` of another label. With `missing`, cells are empty,
    all of them in row r0.
    """

    def write(
        folder: Path, missing: bool = False, mispaired: int = 0, name: str = "rows.csv"
    ) -> Path:
        (folder / "deep").mkdir(parents=True)
        rows = []
        for row in range(40):
            label = row % 10
            (folder / "deep" / f"{row}.txt").write_text(numbers(label, row))
            (folder / f"{row}.txt").write_text(numbers(label, 100 + row))
            right_label = (label + 3) % 10 if row < mispaired else label
            cells = [f"deep/{row}.txt", numbers(right_label, 200 + row), f"{row}.txt"]
            if missing and row % 4 < 3:
                cells[row % 4] = ""
                cells[(row + row // 4) % 3] = ""
            if missing and row == 0:
                cells = ["", "", ""]
            rows.append(
                dict(zip(("id", *NAMES, "label"), (f"r{row}", *cells, str(label)), strict=True))
            )
        path = folder / name
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(rows)
        else:
            lines = [{key: cell for key, cell in row.items() if cell} for row in rows]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


@pytest.fixture
def few_noise_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores and information are integrated over few noise levels: quickly, and less exactly."""
    for module in ("score", "information"):
        monkeypatch.setattr(f"mld.inference.{module}.NODES", 16)
        monkeypatch.setattr(f"mld.inference.{module}.surprisal", partial(surprisal, nodes=16))


@pytest.fixture
def rounding_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples depend on the size of their batch more than by the last bits."""
    sample = DiffusionGenerator.sample

    def rounded(self: DiffusionGenerator, *request: Any) -> LatentSamples:
        samples = sample(self, *request)
        latents = {name: z + 0.001 * len(z) for name, z in samples.latents.items()}
        return LatentSamples(latents, samples.nfe)

    monkeypatch.setattr(DiffusionGenerator, "sample", rounded)
