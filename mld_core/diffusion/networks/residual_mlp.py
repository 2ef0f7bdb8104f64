"""The default score network: a residual MLP with adaptive layer normalisation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import silu

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, Roles, Times
from mld_core.diffusion.modality_modules import ModalityModules
from mld_core.diffusion.networks.score_network import (
    Embedding,
    ModalityParts,
    ScoreMLP,
    init_zero,
)
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import VPSchedule

Hidden = Float[Tensor, "*batch width"]


class AdaLNBlock(nn.Module):
    """x + gate · MLP((1 + scale) · norm(x) + shift), all three set by the activated embedding.

    All three are 0 at first.
    """

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(embedding, 3 * width)
        self.inner = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(width, width)
        init_zero(self.modulation)

    def forward(self, x: Hidden, embedding: Embedding) -> Hidden:
        """The block's output."""
        shift, scale, gate = self.modulation(embedding).chunk(3, dim=-1)
        h = torch.addcmul(shift, self.norm(x), 1 + scale)
        h = self.outer(self.dropout(silu(self.inner(h))))
        return torch.addcmul(x, gate, h)


class Stem(nn.Module):
    """Input MLP of one modality, before the modalities are mixed."""

    def __init__(self, dim: int, embedding: int, width: int) -> None:
        super().__init__()
        hidden = width // 2
        self.mlp = nn.Sequential(
            nn.Linear(dim + embedding, hidden),
            nn.SiLU(),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, width),
        )

    def forward(self, z: Float[Tensor, "*batch latent"], embedding: Embedding) -> Hidden:
        """The modality's contribution to the residual stream."""
        out: Tensor = self.mlp(torch.cat([z, embedding.expand(*z.shape[:-1], -1)], dim=-1))
        return out


def _shared_stem(
    stem: nn.Module,
    z: Float[Tensor, "*terms row latent"],
    embedding: Float[Tensor, "*terms 1 embedding"],
    absent: Bool[Tensor, "*terms 1"],
) -> Hidden:
    """The stem's output for rows that share times and roles.

    An absent latent is the same in all of these rows, so that one of them is computed for all.
    """
    computed = ~absent | (torch.arange(z.shape[-2], device=z.device) == 0)
    out: Tensor = stem(z[computed], embedding.expand(*computed.shape, -1)[computed])
    last_computed = computed.flatten().cumsum(0) - 1
    return out[last_computed].view(*computed.shape, -1)


class ResidualMLP(ScoreMLP):
    """A residual MLP whose layer normalisation is set by times and roles.

    Args:
        layout, schedule, reads_roles: as of ScoreMLP.
        width: of the residual stream.
        depth: number of blocks.
        dropout: inside each block, in [0, 1).
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
        embedding = max(width // 4, 32)
        super().__init__(layout, schedule, width, embedding, reads_roles)
        self.stems = ModalityModules[Stem](
            {name: Stem(dim, embedding, width) for name, dim in layout.dims.items()}
        )
        self.blocks = nn.ModuleList(AdaLNBlock(width, embedding, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out_proj = init_zero(nn.Linear(width, layout.joint_dim))

    def modality_parts(self) -> dict[str, ModalityParts]:
        """Those that read or write the joint latent, or read the features of times and roles."""
        out = ModalityParts(0, self.layout.dims)
        return {**super().modality_parts(), "out_proj.weight": out, "out_proj.bias": out}

    def mute(self, names: Iterable[str]) -> None:
        """The stems of modalities contribute nothing at first."""
        for name in names:
            last = self.stems[name].mlp[-1]
            assert isinstance(last, nn.Linear)
            init_zero(last)

    def velocity(self, z: JointLatent, times: Times, roles: Roles) -> JointLatent:
        """The velocity of z."""
        embedding = self.embed(times, roles)
        h = self.in_proj(z)
        for index, (name, latent) in enumerate(self.layout.split(z).items()):
            stem = self.stems[name]
            if self.embed.features.reads_roles and roles.shape[-2] == 1:
                absent = roles[..., index] == Role.ABSENT
                h = h + _shared_stem(stem, latent, embedding, absent)
            else:
                h = h + stem(latent, embedding)
        activated = silu(embedding)
        for block in self.blocks:
            h = block(h, activated)
        velocity: Tensor = self.out_proj(self.norm(h))
        return velocity
