"""The method `mmvae`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from mld_baselines.method import MultiVAEConfig, MultiVAEMethod
from mld_core import Method, hookimpl


class MixtureConfig(MultiVAEConfig):
    """What a spec may say about a mixture of experts."""

    samples: int = Field(
        1, ge=1, le=100, description="draws from each posterior, weighted by importance"
    )


class Mmvae(MultiVAEMethod):
    """A mixture of experts (Shi et al. 2019)."""

    kind = "mmvae"
    Config = MixtureConfig
    config: MixtureConfig
    vae = "MMVAE"
    mixture = True

    def options(self) -> dict[str, Any]:
        """Nothing of beta, which the package's objective does not read."""
        return {"K": self.config.samples}

    def likelihood_weights(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """Divided by beta, which with one sample is the same as beta on the divergence."""
        weights = super().likelihood_weights(sizes)
        return {name: weight / self.config.beta for name, weight in weights.items()}


@hookimpl
def register_methods() -> list[type[Method]]:
    """The method of this module."""
    return [Mmvae]
