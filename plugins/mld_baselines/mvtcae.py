"""The method `mvtcae`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mld_baselines.method import MultiVAEConfig, MultiVAEMethod
from mld_core import Method, hookimpl


class MvtcaeConfig(MultiVAEConfig):
    """What a spec may say about it."""

    alpha: float = Field(
        5 / 6,
        ge=0,
        le=1,
        description="weight of the divergences from each modality's posterior, against that from "
        "the prior",
    )


class Mvtcae(MultiVAEMethod):
    """A product of experts with a total-correlation objective (Hwang et al. 2021)."""

    kind = "mvtcae"
    Config = MvtcaeConfig
    config: MvtcaeConfig
    vae = "MVTCAE"

    def options(self) -> dict[str, Any]:
        """Both weights."""
        return {"beta": self.config.beta, "alpha": self.config.alpha}


@hookimpl
def register_methods() -> list[type[Method]]:
    """The method of this module."""
    return [Mvtcae]
