"""Build, run and use multi-modal latent diffusion experiments.

    run = mld.load("runs/digits")
    run.sample(given={"digit": "seven.png"}, want=["tone"], n=4).write("out")
    mld.score(run, "rows.csv")

Names are imported on first use, so that `mld --help` does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mld.config.spec import Spec as Spec
    from mld.config.spec import dump_spec as dump_spec
    from mld.config.spec import load_spec as load_spec
    from mld.inference.impute import impute as impute
    from mld.inference.information import information as information
    from mld.inference.log_density import log_density as log_density
    from mld.inference.manifest import ManifestRows as ManifestRows
    from mld.inference.manifest import read_manifest as read_manifest
    from mld.inference.samples import Samples as Samples
    from mld.inference.score import RowScore as RowScore
    from mld.inference.score import score as score
    from mld.inference.trained_run import TrainedRun as TrainedRun
    from mld.inference.trained_run import load as load
    from mld.pipeline.run import run as run
    from mld.storage.run_dir import RunDir as RunDir

_MODULE_OF = {
    "ManifestRows": "inference.manifest",
    "RowScore": "inference.score",
    "RunDir": "storage.run_dir",
    "Samples": "inference.samples",
    "Spec": "config.spec",
    "TrainedRun": "inference.trained_run",
    "dump_spec": "config.spec",
    "impute": "inference.impute",
    "information": "inference.information",
    "load": "inference.trained_run",
    "load_spec": "config.spec",
    "log_density": "inference.log_density",
    "read_manifest": "inference.manifest",
    "run": "pipeline.run",
    "score": "inference.score",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mld' has no attribute {name!r}")
    return getattr(import_module(f"mld.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
