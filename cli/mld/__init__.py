"""Build, run and use multi-modal latent diffusion experiments.

    run = mld.load("runs/digits")
    run.sample(given={"digit": "seven.png"}, want=["tone"], n=4).write("out")

Names are imported when first used, so that `mld --help` never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME_OF = {
    "Run": "using",
    "RunDir": "rundir",
    "Sampled": "using",
    "Spec": "spec",
    "dump_spec": "spec",
    "load": "using",
    "load_spec": "spec",
    "run": "experiment",
}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mld' has no attribute {name!r}")
    return getattr(import_module(f"mld.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
