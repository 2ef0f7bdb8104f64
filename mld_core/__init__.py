"""The mathematics of Multi-modal Latent Diffusion, and the contracts of its plugins.

Names are imported when first used, so that importing this package never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "errors": [
        "ArtefactError",
        "DataError",
        "ExitCode",
        "MLDError",
        "NumericalError",
        "PluginError",
        "SpecError",
    ],
    "modality": ["Autoencoder", "Classifier", "Metric", "Modality", "ModalityConfig", "SplitName"],
    "dataset": ["Dataset", "DatasetConfig", "SpecPath", "Split"],
    "method": ["JointModel", "Method", "MethodConfig"],
    "hookspecs": ["MLD_API", "hookimpl"],
    "registry": ["Entry", "Registry"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mld_core' has no attribute {name!r}")
    return getattr(import_module(f"mld_core.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
