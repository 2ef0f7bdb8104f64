"""A score network for every conditional: what one network with a multi-time vector replaces."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.limits import check_per_subset
from mld_core.diffusion.networks import ResidualMLP
from mld_core.diffusion.roles import Role, conditioning_subsets
from mld_core.diffusion.schedule import VPSchedule


class PerSubsetMLPs(nn.Module):
    """A ResidualMLP for each observed subset, which generates all other modalities.

    2^M − 1 networks for M modalities, each trained by the rows that observe its subset alone:
    for comparison, since their number is what the one network avoids. Rows must be complete.

    Args:
        layout: of the joint latent, of at most four modalities; else ValueError.
        schedule: whose log-SNR the networks are told.
        width, depth, dropout: of each network.
        reads_roles: False for independent times.
    """

    def __init__(
        self,
        layout: LatentLayout,
        schedule: VPSchedule,
        width: int,
        depth: int,
        dropout: float = 0.0,
        reads_roles: bool = True,
    ) -> None:
        super().__init__()
        names = layout.names
        check_per_subset(len(names))
        self.names = names
        self.networks = nn.ModuleDict(
            {
                _key([name in observed for name in names]): ResidualMLP(
                    layout, schedule, width, depth, dropout, reads_roles
                )
                for observed in conditioning_subsets(names)
            }
        )

    def forward(
        self,
        z: Float[Tensor, "batch joint"],
        times: Float[Tensor, "batch modality"],
        roles: Int64[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch joint"]:
        """The noise in z, float32; each row from the network of what it observes."""
        patterns, owner = (roles == Role.OBSERVED).unique(dim=0, return_inverse=True)
        eps_hat = torch.zeros_like(z, dtype=torch.float32)
        for index, pattern in enumerate(patterns.tolist()):
            rows = torch.nonzero(owner == index).squeeze(1)
            answer = self.networks[_key(pattern)](z[rows], times[rows], roles[rows])
            eps_hat = eps_hat.index_copy(0, rows, answer)
        return eps_hat


def _key(observed: list[bool]) -> str:
    return "".join("1" if own else "0" for own in observed)
