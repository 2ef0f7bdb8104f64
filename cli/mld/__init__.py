"""Build, run and use multi-modal latent diffusion experiments.

    run = mld.load("runs/digits")
    run.sample(given={"digit": "seven.png"}, want=["tone"], n=4).write("out")

Names are imported when first used, so that `mld --help` never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mld.config.spec import Spec as Spec
    from mld.config.spec import dump_spec as dump_spec
    from mld.config.spec import load_spec as load_spec
    from mld.inference.samples import Samples as Samples
    from mld.inference.trained_run import Run as Run
    from mld.inference.trained_run import load as load
    from mld.pipeline.run import run as run
    from mld.storage.run_dir import RunDir as RunDir

_MODULE_OF = {
    "Run": "inference.trained_run",
    "RunDir": "storage.run_dir",
    "Samples": "inference.samples",
    "Spec": "config.spec",
    "dump_spec": "config.spec",
    "load": "inference.trained_run",
    "load_spec": "config.spec",
    "run": "pipeline.run",
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mld' has no attribute {name!r}")
    return getattr(import_module(f"mld.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
