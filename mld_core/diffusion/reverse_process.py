"""The reverse process that all samplers integrate, and their source of noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Generator, Tensor

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout
from mld_core.diffusion.multi_time import multi_time_vector
from mld_core.diffusion.networks import PredictNoise
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import VPSchedule


class RowNoise:
    """Standard normal draws with one random stream per row.

    A row's noise, and so its sample, does not depend on the batch.

    Args:
        seeds: one per row.
        width: numbers per row and draw.
        device: of the draws. They are generated on the CPU, so they are equal on all devices.
    """

    DRAWS_PER_BLOCK = 32

    def __init__(self, seeds: Sequence[int], width: int, device: torch.device) -> None:
        self._generators = [Generator().manual_seed(seed) for seed in seeds]
        self._shape = (self.DRAWS_PER_BLOCK, width)
        self._device = device
        self._draws = self._stream()

    def __call__(self) -> JointLatent:
        """The next draw."""
        return next(self._draws)

    def _stream(self) -> Iterator[Tensor]:
        while True:
            rows = [torch.randn(self._shape, generator=generator) for generator in self._generators]
            yield from torch.stack(rows, dim=1).to(self._device)


@dataclass(frozen=True)
class ReverseProcess:
    """A network with fixed roles, on a schedule: all that a sampler needs.

    Args:
        predict_noise: the network, guided or not.
        roles: of all rows, or of each.
    """

    predict_noise: PredictNoise
    roles: Int64[Tensor, "#row modality"]
    layout: LatentLayout
    schedule: VPSchedule

    @property
    def generated(self) -> Bool[Tensor, "#row joint"]:
        """True at the coordinates that are sampled."""
        return self.layout.expand(self.roles == Role.GENERATED)

    def noise_at(self, z: JointLatent, t: float) -> JointLatent:
        """The predicted noise of z at time t."""
        times = multi_time_vector(torch.full((1, 1), t, device=z.device), self.roles)
        return self.predict_noise(z, times, self.roles)

    def scales(self, t: float) -> tuple[float, float, float]:
        """alpha, sigma and half the log-SNR at t, computed in float64; (1, 0, inf) at t = 0."""
        if t == 0:
            return 1.0, 0.0, math.inf
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = self.schedule.alpha(time), self.schedule.sigma(time)
        return alpha.item(), sigma.item(), self.schedule.log_snr(time).item() / 2


Grid = Sequence[float]
"""Falling times in [0, 1]."""
Sampler = Callable[[ReverseProcess, JointLatent, Grid, RowNoise], JointLatent]
"""(process, z at the grid's first time, falling grid of times, noise) to z at its last time."""


def sde_step(process: ReverseProcess, z: Tensor, t: float, s: float, noise: RowNoise) -> Tensor:
    """Euler-Maruyama step of the reverse SDE from t to s: z − (f − g² score) dt + g √dt noise.

    f = −½ beta z and g² = beta; the step to s = 0 adds no noise.
    """
    dt = t - s
    beta = process.schedule.beta(torch.tensor(t)).item()
    time = torch.full((len(z), 1), t, device=z.device)
    score = process.schedule.score_from_noise(process.noise_at(z, t), time)
    mean = z + dt * beta * (z / 2 + score)
    return mean + math.sqrt(beta * dt) * noise() if s > 0 else mean
