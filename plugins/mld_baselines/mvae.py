"""The method `mvae`: a product of experts."""

from __future__ import annotations

from typing import Any

from mld_baselines.method import MultiVAEConfig, MultiVAEMethod
from mld_core import Method, hookimpl


class Mvae(MultiVAEMethod):
    """A product of experts, trained on all modalities and on each alone (Wu and Goodman 2018)."""

    kind = "mvae"
    Config = MultiVAEConfig
    vae_class = "MVAE"

    def options(self) -> dict[str, Any]:
        """Without the warm-up of beta, which the package counts in epochs."""
        return {**super().options(), "warmup": 0}


@hookimpl
def register_methods() -> list[type[Method]]:
    """The methods of this module."""
    return [Mvae]
