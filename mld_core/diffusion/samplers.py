"""Samplers: functions of a reverse process, a grid of times and a source of noise.

Times fall along the grid from 1; a grid may end in 0, and the step to 0 is then the network's
estimate of the clean latent. Only GENERATED coordinates change; the others are returned bit for
bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mld_core.diffusion.repaint import sample_inpaint, sample_repaint
from mld_core.diffusion.reverse_process import Grid, ReverseProcess, RowNoise, Sampler, sde_step
from mld_core.diffusion.schedule import VPSchedule


def time_grid(schedule: VPSchedule, steps: int, t_min: float = 1e-3) -> list[float]:
    """`steps` + 1 times from 1 to 0: uniform in log-SNR to t_min, then 0."""
    ends = schedule.log_snr(torch.tensor([1.0, t_min], dtype=torch.float64))
    levels = torch.linspace(ends[0].item(), ends[1].item(), steps, dtype=torch.float64)
    times: list[float] = schedule.time_at_log_snr(levels).tolist()
    return [1.0, *times[1:], 0.0]


def uniform_grid(schedule: VPSchedule, steps: int) -> list[float]:
    """`steps` + 1 evenly spaced times from 1 to 0, as in the paper."""
    return [(steps - k) / steps for k in range(steps + 1)]


def sample_ddim(process: ReverseProcess, z: Tensor, grid: Grid, noise: RowNoise) -> Tensor:
    """DDIM with eta = 0, first order (Song, Meng and Ermon 2021, eq. 12)."""
    for t, s in pairwise(grid):
        moved = _ddim_step(process, z, process.noise_at(z, t), t, s)
        z = torch.where(process.generated, moved, z)
    return z


def sample_heun(process: ReverseProcess, z: Tensor, grid: Grid, noise: RowNoise) -> Tensor:
    """Heun's method on the probability-flow ODE d(z/alpha) = eps d(sigma/alpha), second order.

    Two evaluations a step, one on the step to 0. (Karras et al. 2022, algorithm 1.)
    """
    for t, s in pairwise(grid):
        eps = process.noise_at(z, t)
        moved = torch.where(process.generated, _ddim_step(process, z, eps, t, s), z)
        if s > 0:
            eps = (eps + process.noise_at(moved, s)) / 2
            moved = torch.where(process.generated, _ddim_step(process, z, eps, t, s), z)
        z = moved
    return z


def _ddim_step(process: ReverseProcess, z: Tensor, eps: Tensor, t: float, s: float) -> Tensor:
    """Move z/alpha along eps by the change of sigma/alpha."""
    (alpha_t, sigma_t, _), (alpha_s, sigma_s, _) = process.scales(t), process.scales(s)
    return alpha_s / alpha_t * z + (sigma_s - alpha_s * sigma_t / alpha_t) * eps


def sample_dpmpp_2m(process: ReverseProcess, z: Tensor, grid: Grid, noise: RowNoise) -> Tensor:
    """DPM-Solver++(2M), second order, one evaluation a step (Lu et al. 2022, algorithm 2)."""
    return _dpmpp_2m(process, z, grid, None)


def sample_dpmpp_2m_sde(process: ReverseProcess, z: Tensor, grid: Grid, noise: RowNoise) -> Tensor:
    """SDE-DPM-Solver++(2M): DPM-Solver++ with fresh noise at each step (Lu et al. 2022)."""
    return _dpmpp_2m(process, z, grid, noise)


def _dpmpp_2m(process: ReverseProcess, z: Tensor, grid: Grid, noise: RowNoise | None) -> Tensor:
    """Each step uses an extrapolation of the last two clean estimates.

    The first step and the step to 0 use the current estimate alone.
    """
    previous: Tensor | None = None
    h_previous = 0.0
    for t, s in pairwise(grid):
        (alpha_t, sigma_t, lambda_t), (alpha_s, sigma_s, lambda_s) = map(process.scales, (t, s))
        estimate = data = (z - sigma_t * process.noise_at(z, t)) / alpha_t
        h = lambda_s - lambda_t
        if previous is not None and s > 0:
            data = estimate + h / h_previous / 2 * (estimate - previous)
        if noise is None:
            moved = sigma_s / sigma_t * z - alpha_s * math.expm1(-h) * data
        else:
            variance = -math.expm1(-2 * h)
            moved = sigma_s / sigma_t * math.exp(-h) * z + alpha_s * variance * data
            if s > 0:
                moved = moved + sigma_s * math.sqrt(variance) * noise()
        z = torch.where(process.generated, moved, z)
        previous, h_previous = estimate, h
    return z


def sample_euler(process: ReverseProcess, z: Tensor, grid: Grid, noise: RowNoise) -> Tensor:
    """Euler-Maruyama on the reverse SDE (Song et al. 2021, eq. 6), the last step without noise."""
    for t, s in pairwise(grid):
        z = torch.where(process.generated, sde_step(process, z, t, s, noise), z)
    return z


@dataclass(frozen=True)
class Solver:
    """A sampler and its grid of times: (schedule, steps) to `steps` + 1 times from 1 to 0."""

    sample: Sampler
    grid: Callable[[VPSchedule, int], list[float]]


SAMPLERS: dict[str, Solver] = {
    "dpm-solver++": Solver(sample_dpmpp_2m, time_grid),
    "sde-dpm-solver++": Solver(sample_dpmpp_2m_sde, time_grid),
    "ddim": Solver(sample_ddim, time_grid),
    "heun": Solver(sample_heun, time_grid),
    "euler-maruyama": Solver(sample_euler, uniform_grid),
    "repaint": Solver(sample_repaint, uniform_grid),
    "inpaint": Solver(sample_inpaint, uniform_grid),
}
