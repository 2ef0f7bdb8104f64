"""The method `mmvae`: a mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from mld_baselines.method import MultiVAEConfig, MultiVAEMethod
from mld_core import Method, hookimpl


class MmvaeConfig(MultiVAEConfig):
    """Settings of MMVAE."""

    samples: int = Field(1, ge=1, le=100, description="importance-weighted draws per posterior")


class Mmvae(MultiVAEMethod):
    """A mixture of experts (Shi et al. 2019)."""

    kind = "mmvae"
    Config = MmvaeConfig
    config: MmvaeConfig
    vae_class = "MMVAE"
    is_mixture = True

    def options(self) -> dict[str, Any]:
        """Without beta, which the package's objective does not read."""
        return {"latent_dim": self.config.latent_dim, "K": self.config.samples}

    def likelihood_weights(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """Divided by beta; with one sample this equals weighting the KL divergence by beta."""
        weights = super().likelihood_weights(sizes)
        return {name: weight / self.config.beta for name, weight in weights.items()}


@hookimpl
def register_methods() -> list[type[Method]]:
    """The methods of this module."""
    return [Mmvae]
