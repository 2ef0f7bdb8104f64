"""Small runs over the fixture plugins, in this process or as a script in another."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from mld.config.spec import load_spec
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Registry

SPEC = """
name: small
data: {kind: examples, train: 400, validation: 60, test: 60}
modalities:
  left: {kind: points, latent_dim: 4}
  right: {kind: marks, latent_dim: 5}
  third: {kind: points, latent_dim: 4}
autoencode: {steps: 300, batch_size: 32, learning_rate: 0.01}
diffuse:
  network: {kind: residual-mlp, width: 64, depth: 2, dropout: 0.05}
  steps: 500
  batch_size: 128
  learning_rate: 0.004
generate: {num_samples: 60, num_previews: 2, steps: 10}
evaluate: {steps: 100, batch_size: 32, learning_rate: 0.01}
compute: {threads: 1}
"""
MODULES = {
    "points": "mld_points",
    "marks": "mld_marks",
    "relay": "mld_relay",
    "examples": "mld_datasets.examples",
    "manifest": "mld_datasets.manifest",
    "tensorboard": "mld_trackers.tensorboard",
    "mlflow": "mld_trackers.mlflow",
}


def registry(more: Mapping[str, str] | None = None, **selection: Any) -> Registry:
    """The small modalities, a small method, the built-in datasets and `more` modules by kind."""
    modules = {**MODULES, **(more or {})}
    points = [EntryPoint(kind, module, "mld") for kind, module in modules.items()]
    return Registry(points, **selection)


if __name__ == "__main__":
    spec, out, store, *overrides = sys.argv[1:]
    plugins = registry()
    small = load_spec(Path(spec), plugins, overrides)
    print(run(small, RunDir(Path(out)), plugins, store=WeightStore(Path(store))))
