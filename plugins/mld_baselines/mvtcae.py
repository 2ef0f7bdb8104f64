"""The method `mvtcae`: a product of experts with a total-correlation objective."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mld_baselines.method import MultiVAEConfig, MultiVAEMethod
from mld_core import Method, hookimpl


class MvtcaeConfig(MultiVAEConfig):
    """Settings of MVTCAE."""

    alpha: float = Field(
        5 / 6,
        ge=0,
        le=1,
        description="weight of the KL divergences from each modality's posterior; 1 - alpha "
        "weights the one from the prior",
    )


class Mvtcae(MultiVAEMethod):
    """A product of experts with a total-correlation objective (Hwang et al. 2021)."""

    kind = "mvtcae"
    Config = MvtcaeConfig
    config: MvtcaeConfig
    vae_class = "MVTCAE"

    def options(self) -> dict[str, Any]:
        """Also alpha."""
        return {**super().options(), "alpha": self.config.alpha}


@hookimpl
def register_methods() -> list[type[Method]]:
    """The methods of this module."""
    return [Mvtcae]
