"""The method `mopoe`: a mixture of products of experts."""

from __future__ import annotations

from mld_baselines.method import MultiVAEConfig, MultiVAEMethod
from mld_core import Method, hookimpl


class Mopoe(MultiVAEMethod):
    """A mixture over all subsets of products of experts (Sutter, Daunhawer and Vogt 2021)."""

    kind = "mopoe"
    Config = MultiVAEConfig
    vae_class = "MoPoE"
    expert_per_row = True


@hookimpl
def register_methods() -> list[type[Method]]:
    """The methods of this module."""
    return [Mopoe]
