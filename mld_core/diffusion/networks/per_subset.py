"""One score network per observed subset, which a single multi-time network replaces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, Roles, Times
from mld_core.diffusion.limits import MAX_PER_SUBSET_MODALITIES
from mld_core.diffusion.networks.residual_mlp import ResidualMLP
from mld_core.diffusion.roles import Role, conditioning_subsets
from mld_core.diffusion.schedule import VPSchedule


class PerSubsetMLPs(nn.Module):
    """A ResidualMLP for each observed subset, which generates all other modalities.

    2^M − 1 networks for M modalities, each trained only on rows that observe its subset. For
    comparison: avoiding this number is the purpose of a single network. Rows must be complete.

    Args:
        layout: ValueError for more than MAX_PER_SUBSET_MODALITIES modalities.
        settings: further arguments of each ResidualMLP.
    """

    def __init__(self, layout: LatentLayout, schedule: VPSchedule, **settings: Any) -> None:
        super().__init__()
        names = layout.names
        if len(names) > MAX_PER_SUBSET_MODALITIES:
            raise ValueError(
                f"a network for each observed subset of {len(names)} modalities would be "
                f"{2 ** len(names) - 1} networks: at most {MAX_PER_SUBSET_MODALITIES} modalities "
                "are supported"
            )
        self.networks = nn.ModuleDict(
            {
                _key(name in observed for name in names): ResidualMLP(layout, schedule, **settings)
                for observed in conditioning_subsets(names)
            }
        )

    def forward(self, z: JointLatent, times: Times, roles: Roles) -> JointLatent:
        """The noise in z, float32; each row is computed by the network of its observed subset."""
        times, roles = times.expand(len(z), -1), roles.expand(len(z), -1)
        subsets, subset_of_row = (roles == Role.OBSERVED).unique(dim=0, return_inverse=True)
        eps_hat = torch.zeros_like(z, dtype=torch.float32)
        for index, subset in enumerate(subsets.tolist()):
            rows = torch.nonzero(subset_of_row == index).squeeze(1)
            network = self.networks[_key(subset)]
            eps_hat = eps_hat.index_copy(0, rows, network(z[rows], times[rows], roles[rows]))
        return eps_hat


def _key(observed: Iterable[bool]) -> str:
    return "".join("1" if is_observed else "0" for is_observed in observed)
