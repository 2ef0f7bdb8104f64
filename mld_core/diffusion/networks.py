"""Score networks: the joint latent, its multi-time vector and roles in; the noise out.

`predict_noise(z, times, roles) -> eps_hat`, always: no argument changes what comes back. Entries
of eps_hat at coordinates that are not generated mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.limits import UNET_GROUPS, check_unet_width
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import T_MIN, VPSchedule

PredictNoise = Callable[
    [
        Float[Tensor, "batch joint"],
        Float[Tensor, "batch modality"],
        Int64[Tensor, "batch modality"],
    ],
    Float[Tensor, "batch joint"],
]
"""(z, times, roles) to the noise in z: what every sampler and every estimator calls."""


class MultiTimeEmbedding(nn.Module):
    """Times and roles of all modalities as one vector.

    Each modality gives sines and cosines of its log-SNR, at periods from 32 down to 1, and a
    one-hot of its role. An observed one has zeros for its log-SNR, which is infinite. (The
    official network reads raw times, in which 0 may mean observed or barely diffused.)

    Args:
        reads_roles: False for independent times, where the time alone says everything.
    """

    frequencies: Tensor

    def __init__(
        self, layout: LatentLayout, schedule: VPSchedule, width: int, reads_roles: bool
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.reads_roles = reads_roles
        periods = torch.logspace(5, 0, 8, base=2.0)
        self.register_buffer("frequencies", 2 * torch.pi / periods, persistent=False)
        features = len(layout.names) * (2 * len(periods) + 1 + len(Role))
        self.mix = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(
        self, times: Float[Tensor, "batch modality"], roles: Int64[Tensor, "batch modality"]
    ) -> Float[Tensor, "batch width"]:
        """The embedding of each row."""
        if not self.reads_roles:
            roles = torch.zeros_like(roles)
        log_snr = self.schedule.log_snr(times.clamp(min=T_MIN))[..., None]
        angles = log_snr * self.frequencies
        waves = torch.cat([log_snr / 10, angles.sin(), angles.cos()], dim=-1)
        waves = torch.where((roles == Role.OBSERVED)[..., None], 0.0, waves)
        features = torch.cat([waves, one_hot(roles, len(Role))], dim=-1)
        embedded: Tensor = self.mix(features.flatten(1))
        return embedded


class AdaLNBlock(nn.Module):
    """x + gate · MLP(scale · norm(x) + shift), all three set by the embedding; 0 at first."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(embedding, 3 * width)
        self.inner = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, x: Float[Tensor, "batch width"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch width"]:
        """The block's output."""
        shift, scale, gate = self.modulation(silu(embedding)).chunk(3, dim=-1)
        h = self.norm(x) * (1 + scale) + shift
        h = self.outer(self.dropout(silu(self.inner(h))))
        out: Tensor = x + gate * h
        return out


class Stem(nn.Module):
    """What one modality's latent says, read before the noise of the others is mixed in."""

    def __init__(self, dim: int, embedding: int, width: int) -> None:
        super().__init__()
        hidden = width // 2
        self.read = nn.Sequential(
            nn.Linear(dim + embedding, hidden),
            nn.SiLU(),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, width),
        )

    def forward(
        self, z: Float[Tensor, "batch latent"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch width"]:
        """The modality's contribution to the residual stream."""
        said: Tensor = self.read(torch.cat([z, embedding], dim=1))
        return said


class ResidualMLP(nn.Module):
    """A residual MLP whose normalisation follows times and roles; the default network.

    Each modality enters through a stem of its own. What the blocks compute is the velocity, from
    which the noise follows, so that at high noise they need not learn to copy their input.

    Args:
        layout: of the joint latent.
        schedule: whose log-SNR the network is told.
        width: of the residual stream.
        depth: number of blocks.
        dropout: inside each block, in [0, 1).
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
        self.layout = layout
        self.schedule = schedule
        embedding = max(width // 4, 32)
        self.embed = MultiTimeEmbedding(layout, schedule, embedding, reads_roles)
        self.in_proj = nn.Linear(layout.joint_dim, width)
        self.stems = nn.ModuleDict(
            {name: Stem(dim, embedding, width) for name, dim in layout.dims.items()}
        )
        self.blocks = nn.ModuleList(AdaLNBlock(width, embedding, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, layout.joint_dim)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        z: Float[Tensor, "batch joint"],
        times: Float[Tensor, "batch modality"],
        roles: Int64[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch joint"]:
        """The noise in z, float32."""
        embedding = self.embed(times, roles)
        h = self.in_proj(z)
        for name, latent in self.layout.split(z).items():
            h = h + self.stems[name](latent, embedding)
        for block in self.blocks:
            h = block(h, embedding)
        velocity = self.out_proj(self.norm(h)).float()
        return self.schedule.noise_from_velocity(velocity, z, self.layout.expand(times))


class ResBlock(nn.Module):
    """The paper's residual block: two pre-activated layers, the time added between."""

    def __init__(self, width: int, out: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(groups, width), nn.SiLU(), nn.Linear(width, out))
        self.shift = nn.Linear(embedding, out)
        self.second = nn.Sequential(nn.GroupNorm(groups, out), nn.SiLU(), nn.Linear(out, out))
        self.skip = nn.Identity() if width == out else nn.Linear(width, out)

    def forward(
        self, x: Float[Tensor, "batch width"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch out"]:
        """The block's output."""
        h = self.second(self.first(x) + self.shift(silu(embedding)))
        out: Tensor = h + self.skip(x)
        return out


class UNetMLP(nn.Module):
    """The paper's network: a U-Net of linear layers, all of one width.

    As released (mults of one, no dropout, no attention), save that it reads our embedding of
    log-SNR and role in place of raw times, and that the noise follows from a velocity, as in
    ResidualMLP. On MNIST-SVHN: width 256, depth 2, groups 8.

    Args:
        layout: of the joint latent.
        schedule: whose log-SNR the network is told.
        width: of every layer, a multiple of 8.
        depth: number of levels down, and up again.
        reads_roles: False for independent times.
    """

    def __init__(
        self,
        layout: LatentLayout,
        schedule: VPSchedule,
        width: int,
        depth: int,
        reads_roles: bool = True,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.schedule = schedule
        check_unet_width(width)
        groups, embedding = UNET_GROUPS, width
        self.embed = MultiTimeEmbedding(layout, schedule, embedding, reads_roles)
        self.in_proj = nn.Linear(layout.joint_dim, width)

        def block(inward: int) -> ResBlock:
            return ResBlock(inward, width, embedding, groups)

        self.down = nn.ModuleList(block(width) for _ in range(depth))
        self.down_proj = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.middle = nn.ModuleList(block(width) for _ in range(2))
        self.up = nn.ModuleList(block(2 * width) for _ in range(depth))
        self.up_proj = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = block(2 * width)
        last = nn.Linear(width, layout.joint_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.out_proj = nn.Sequential(nn.GroupNorm(groups, width), nn.SiLU(), last)

    def forward(
        self,
        z: Float[Tensor, "batch joint"],
        times: Float[Tensor, "batch modality"],
        roles: Int64[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch joint"]:
        """The noise in z, float32."""
        embedding = self.embed(times, roles)
        h = entered = self.in_proj(z)
        skips = []
        for block, down_proj in zip(self.down, self.down_proj, strict=True):
            h = block(h, embedding)
            skips.append(h)
            h = down_proj(h)
        for block in self.middle:
            h = block(h, embedding)
        for block, up_proj in zip(self.up, self.up_proj, strict=True):
            h = up_proj(block(torch.cat([h, skips.pop()], dim=1), embedding))
        velocity = self.out_proj(self.last(torch.cat([h, entered], dim=1), embedding)).float()
        return self.schedule.noise_from_velocity(velocity, z, self.layout.expand(times))


NETWORKS: dict[str, type[ResidualMLP] | type[UNetMLP]] = {
    "residual-mlp": ResidualMLP,
    "unet-mlp": UNetMLP,
}
