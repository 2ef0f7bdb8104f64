"""The method `mmvae-plus`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt

from mld_baselines.method import MultiVAEConfig, MultiVAEMethod
from mld_core import Method, hookimpl


class MmvaePlusConfig(MultiVAEConfig):
    """What a spec may say about it."""

    latent_dim: PositiveInt = Field(10, description="numbers in the latent that all share")
    private_dim: PositiveInt = Field(10, description="numbers in the latent of a modality's own")
    samples: int = Field(
        1, ge=1, le=100, description="draws from each posterior, weighted by importance"
    )


class MmvaePlus(MultiVAEMethod):
    """A mixture of experts with a private latent of each modality (Palumbo et al. 2023)."""

    kind = "mmvae-plus"
    Config = MmvaePlusConfig
    config: MmvaePlusConfig
    vae = "MMVAEPlus"
    mixture = True

    def private_dim(self) -> int:
        """As the spec says."""
        return self.config.private_dim

    def options(self) -> dict[str, Any]:
        """The width of the private latents, and the objective."""
        return {
            "beta": self.config.beta,
            "K": self.config.samples,
            "modalities_specific_dim": self.config.private_dim,
        }


@hookimpl
def register_methods() -> list[type[Method]]:
    """The method of this module."""
    return [MmvaePlus]
