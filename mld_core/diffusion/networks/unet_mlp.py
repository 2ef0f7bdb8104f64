"""The paper's score network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, Roles, Times
from mld_core.diffusion.limits import UNET_GROUPS
from mld_core.diffusion.networks.score_network import (
    Embedding,
    ModalityParts,
    ScoreMLP,
    init_zero,
)
from mld_core.diffusion.schedule import VPSchedule


class RowGroupNorm(nn.GroupNorm):
    """Normalises groups of the last dimension, whatever the dimensions before it."""

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The normalised rows."""
        return super().forward(x.flatten(0, -2)).view_as(x)


class ResBlock(nn.Module):
    """The paper's residual block: two pre-activated layers, the embedding added in between."""

    def __init__(self, width: int, out: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            RowGroupNorm(UNET_GROUPS, width), nn.SiLU(), nn.Linear(width, out)
        )
        self.shift = nn.Linear(embedding, out)
        self.second = nn.Sequential(RowGroupNorm(UNET_GROUPS, out), nn.SiLU(), nn.Linear(out, out))
        self.skip = nn.Identity() if width == out else nn.Linear(width, out)

    def forward(
        self, x: Float[Tensor, "*batch width"], embedding: Embedding
    ) -> Float[Tensor, "*batch out"]:
        """The block's output."""
        h = self.second(self.first(x) + self.shift(silu(embedding)))
        out: Tensor = h + self.skip(x)
        return out


class UNetMLP(ScoreMLP):
    """The paper's network: a U-Net of linear layers, all of one width.

    As released (channel multipliers of one, no dropout, no attention), but with the embedding of
    log-SNR and role instead of raw times, and with the noise computed from a velocity. On
    MNIST-SVHN: width 256, depth 2, 8 groups.

    Args:
        layout, schedule, reads_roles: as of ScoreMLP.
        width: of every layer, a multiple of UNET_GROUPS.
        depth: number of levels down, and up again.
    """

    def __init__(
        self,
        layout: LatentLayout,
        schedule: VPSchedule,
        width: int,
        depth: int,
        reads_roles: bool = True,
    ) -> None:
        if width % UNET_GROUPS:
            raise ValueError(f"width must be a multiple of {UNET_GROUPS}, not {width}")
        super().__init__(layout, schedule, width, width, reads_roles)

        def block(inputs: int) -> ResBlock:
            return ResBlock(inputs, width, width)

        self.down = nn.ModuleList(block(width) for _ in range(depth))
        self.down_proj = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.middle = nn.ModuleList(block(width) for _ in range(2))
        self.up = nn.ModuleList(block(2 * width) for _ in range(depth))
        self.up_proj = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out_block = block(2 * width)
        self.out_proj = nn.Sequential(
            RowGroupNorm(UNET_GROUPS, width),
            nn.SiLU(),
            init_zero(nn.Linear(width, layout.joint_dim)),
        )

    def modality_parts(self) -> dict[str, ModalityParts]:
        """Those that read or write the joint latent, or read the features of times and roles."""
        out = ModalityParts(0, self.layout.dims)
        return {**super().modality_parts(), "out_proj.2.weight": out, "out_proj.2.bias": out}

    def velocity(self, z: JointLatent, times: Times, roles: Roles) -> JointLatent:
        """The velocity of z."""
        embedding = self.embed(times, roles)
        h = projected = self.in_proj(z)
        skips = []
        for block, down_proj in zip(self.down, self.down_proj, strict=True):
            h = block(h, embedding)
            skips.append(h)
            h = down_proj(h)
        for block in self.middle:
            h = block(h, embedding)
        for block, up_proj in zip(self.up, self.up_proj, strict=True):
            h = up_proj(block(torch.cat([h, skips.pop()], dim=-1), embedding))
        h = self.out_block(torch.cat([h, projected], dim=-1), embedding)
        velocity: Tensor = self.out_proj(h)
        return velocity
