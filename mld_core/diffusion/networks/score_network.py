"""The interface of a score network, and the parts that all networks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, Roles, Times
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import T_MIN, VPSchedule

Embedding = Float[Tensor, "*#batch embedding"]
"""Of times and roles; rows that share these share their embedding."""
PredictNoise = Callable[[JointLatent, Times, Roles], JointLatent]
"""(z, times, roles) to the noise in z; its coordinates that are not GENERATED are undefined.

Rows may share times and roles: "row joint" with "1 modality", or "term row joint" with "term 1
modality". If roles are read, ABSENT latents must then be equal in these rows, as zeros are.
"""


@dataclass(frozen=True)
class ModalityParts:
    """A parameter whose axis is divided among the modalities, by the width of each."""

    axis: int
    widths: Mapping[str, int]

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """The part of each modality, as a view."""
        parts = values.split([*self.widths.values()], self.axis)
        return dict(zip(self.widths, parts, strict=True))


class ScoreNetwork(nn.Module, ABC):
    """A network that predicts a velocity, and from it the noise.

    At high noise the noise is almost z itself; the velocity v = alpha eps − sigma z_0 spares the
    network from copying it. What the network sees has unit variance at every time, whatever the
    `latent_std` of the layout.

    Args:
        layout: of the joint latent.
        schedule: whose log-SNR is the network's measure of time.
    """

    latent_std: Tensor

    def __init__(self, layout: LatentLayout, schedule: VPSchedule) -> None:
        super().__init__()
        self.layout = layout
        self.schedule = schedule
        self.register_buffer("latent_std", layout.latent_std, persistent=False)

    def forward(self, z: JointLatent, times: Times, roles: Roles) -> JointLatent:
        """The noise in z, float32: sigma z + alpha v (Salimans and Ho 2022)."""
        alpha, sigma, std = self.schedule.of_unit_variance(times, self.latent_std.to(times))
        z = z / self.layout.expand(std)
        velocity = self.velocity(z, times, roles).float()
        return self.layout.expand(sigma) * z + self.layout.expand(alpha) * velocity

    @abstractmethod
    def velocity(self, z: JointLatent, times: Times, roles: Roles) -> JointLatent:
        """The velocity of z, which has unit variance."""

    def modality_parts(self) -> dict[str, ModalityParts]:
        """The parameters with a part for each modality, by name; all others are shared or named."""
        return {}

    def mute(self, names: Iterable[str]) -> None:
        """Have modalities change nothing where they are ABSENT, if their parts are 0."""


class ScoreMLP(ScoreNetwork):
    """A network of linear layers, which sees the joint latent as one vector.

    Args:
        layout, schedule: as of ScoreNetwork.
        width: of the hidden layers.
        embedding: width of the embedding of times and roles.
        reads_roles: False for independent times, which determine the roles.
    """

    def __init__(
        self,
        layout: LatentLayout,
        schedule: VPSchedule,
        width: int,
        embedding: int,
        reads_roles: bool,
    ) -> None:
        super().__init__(layout, schedule)
        self.embed = MultiTimeEmbedding(layout, schedule, embedding, reads_roles)
        self.in_proj = nn.Linear(layout.joint_dim, width)

    def modality_parts(self) -> dict[str, ModalityParts]:
        """Those that read the joint latent, or the features of times and roles."""
        features = dict.fromkeys(self.layout.names, self.embed.features.width)
        return {
            "in_proj.weight": ModalityParts(1, self.layout.dims),
            "embed.mlp.0.weight": ModalityParts(1, features),
        }


class TimeFeatures(nn.Module):
    """Features of each modality's time and role.

    They are sines and cosines of the log-SNR, at periods from 32 down to 1, and a one-hot vector of
    the role. For an OBSERVED modality, whose log-SNR is infinite, the waves are zeros. (The
    official network reads raw times, where 0 stands both for observed and for barely diffused.)

    Args:
        schedule, reads_roles: as of ScoreMLP.
    """

    frequencies: Tensor

    def __init__(self, schedule: VPSchedule, reads_roles: bool) -> None:
        super().__init__()
        self.schedule = schedule
        self.reads_roles = reads_roles
        periods = torch.logspace(5, 0, 8, base=2.0)
        self.register_buffer("frequencies", 2 * torch.pi / periods, persistent=False)
        self.width = 2 * len(periods) + 1 + len(Role)

    def forward(self, times: Times, roles: Roles) -> Float[Tensor, "*#batch modality feature"]:
        """The features of each modality."""
        if not self.reads_roles:
            roles = torch.zeros_like(roles)
        log_snr = self.schedule.log_snr(times.clamp(min=T_MIN))[..., None]
        angles = log_snr * self.frequencies
        waves = torch.cat([log_snr / 10, angles.sin(), angles.cos()], dim=-1)
        waves = torch.where((roles == Role.OBSERVED)[..., None], 0.0, waves)
        return torch.cat([waves, one_hot(roles, len(Role))], dim=-1)


class MultiTimeEmbedding(nn.Module):
    """Embedding of the times and roles of all modalities as one vector.

    Args:
        layout, schedule, reads_roles: as of ScoreMLP.
        width: of the embedding.
    """

    def __init__(
        self, layout: LatentLayout, schedule: VPSchedule, width: int, reads_roles: bool
    ) -> None:
        super().__init__()
        self.features = TimeFeatures(schedule, reads_roles)
        inputs = len(layout.names) * self.features.width
        self.mlp = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: Times, roles: Roles) -> Embedding:
        """The embedding of each row of times."""
        embedding: Tensor = self.mlp(self.features(times, roles).flatten(-2))
        return embedding


def init_zero(layer: nn.Linear) -> nn.Linear:
    """The same layer with zero weights and bias, so that it contributes nothing at first."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
