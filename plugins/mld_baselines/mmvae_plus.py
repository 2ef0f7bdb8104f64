"""The method `mmvae-plus`: a mixture of experts with private latents."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt

from mld_baselines.method import MultiVAEConfig, MultiVAEMethod
from mld_core import Method, hookimpl


class MmvaePlusConfig(MultiVAEConfig):
    """Settings of MMVAE+."""

    latent_dim: PositiveInt = Field(10, description="width of the latent that modalities share")
    private_dim: PositiveInt = Field(10, description="width of each modality's private latent")
    samples: int = Field(1, ge=1, le=100, description="importance-weighted draws per posterior")


class MmvaePlus(MultiVAEMethod):
    """A mixture of experts with a private latent per modality (Palumbo et al. 2023)."""

    kind = "mmvae-plus"
    Config = MmvaePlusConfig
    config: MmvaePlusConfig
    vae_class = "MMVAEPlus"
    is_mixture = True

    def options(self) -> dict[str, Any]:
        """Also the number of draws and the width of the private latents."""
        return {
            **super().options(),
            "K": self.config.samples,
            "modalities_specific_dim": self.config.private_dim,
        }


@hookimpl
def register_methods() -> list[type[Method]]:
    """The methods of this module."""
    return [MmvaePlus]
