"""Score networks: the noise of the joint latent, predicted from its times and roles."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mld_core.diffusion.networks.per_subset import PerSubsetMLPs
from mld_core.diffusion.networks.residual_mlp import ResidualMLP
from mld_core.diffusion.networks.score_network import PredictNoise
from mld_core.diffusion.networks.transformer import Transformer
from mld_core.diffusion.networks.unet_mlp import UNetMLP

__all__ = ["NETWORKS", "PerSubsetMLPs", "PredictNoise", "ResidualMLP", "Transformer", "UNetMLP"]

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "residual-mlp": ResidualMLP,
    "unet-mlp": UNetMLP,
    "transformer": Transformer,
    "per-subset": PerSubsetMLPs,
}
"""Network classes by the name that a spec uses."""
