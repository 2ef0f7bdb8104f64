"""From noise to latents: plain functions over a reverse process, a grid and a noise source.

Times fall along the grid from 1; a grid may end in 0, and the step to 0 is then the network's
estimate of the clean latent. Only GENERATED coordinates move; the rest stay as given, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from mld_core.layout import LatentLayout
from mld_core.multitime import multi_time_vector
from mld_core.networks import PredictNoise
from mld_core.roles import Role
from mld_core.schedule import VPSchedule


class RowNoise:
    """Standard normal draws with one stream per row, so that a sample ignores its batch.

    Args:
        seeds: one per row.
        width: numbers per row and draw.
        device: where the draws go; they are made on the CPU, so they are the same everywhere.
    """

    AHEAD = 32

    def __init__(self, seeds: Sequence[int], width: int, device: torch.device) -> None:
        self._generators = [Generator().manual_seed(seed) for seed in seeds]
        self._shape = (self.AHEAD, width)
        self._device = device
        self._draws = self._stream()

    def __call__(self) -> Float[Tensor, "batch joint"]:
        """The next draw."""
        return next(self._draws)

    def _stream(self) -> Iterator[Tensor]:
        while True:
            rows = [torch.randn(self._shape, generator=own) for own in self._generators]
            yield from torch.stack(rows, dim=1).to(self._device)


@dataclass(frozen=True)
class ReverseProcess:
    """What a sampler needs to know: the network bound to its roles, on a schedule.

    Args:
        predict_noise: the network, guided or not.
        roles: of each row.
        layout: of the joint latent.
        schedule: of the noise.
    """

    predict_noise: PredictNoise
    roles: Int64[Tensor, "batch modality"]
    layout: LatentLayout
    schedule: VPSchedule

    @property
    def generated(self) -> Bool[Tensor, "batch joint"]:
        """True at the coordinates that move."""
        return self.layout.expand(self.roles == Role.GENERATED)

    def noise_at(self, z: Float[Tensor, "batch joint"], t: float) -> Float[Tensor, "batch joint"]:
        """The predicted noise of z at time t."""
        times = multi_time_vector(torch.full((len(z), 1), t, device=z.device), self.roles)
        return self.predict_noise(z, times, self.roles)

    def scales(self, t: float) -> tuple[float, float, float]:
        """alpha, sigma and half log-SNR at t, as float64 numbers; (1, 0, inf) at t = 0."""
        if t == 0:
            return 1.0, 0.0, math.inf
        at = torch.tensor(t, dtype=torch.float64)
        schedule = self.schedule
        half = schedule.log_snr(at).item() / 2
        return schedule.alpha(at).item(), schedule.sigma(at).item(), half


Sampler = Callable[
    [ReverseProcess, Float[Tensor, "batch joint"], Sequence[float], RowNoise],
    Float[Tensor, "batch joint"],
]
"""(process, z at the grid's first time, falling grid of times, noise) to z at its last time."""


def time_grid(schedule: VPSchedule, steps: int, t_min: float = 1e-3) -> list[float]:
    """`steps` + 1 times from 1 to 0: uniform in log-SNR down to t_min, then 0."""
    ends = schedule.log_snr(torch.tensor([1.0, t_min], dtype=torch.float64))
    levels = torch.linspace(ends[0].item(), ends[1].item(), steps, dtype=torch.float64)
    times: list[float] = schedule.time_at_log_snr(levels).tolist()
    return [1.0, *times[1:], 0.0]


def uniform_grid(schedule: VPSchedule, steps: int) -> list[float]:
    """`steps` + 1 times from 1 to 0, evenly spaced: the paper's."""
    return [(steps - k) / steps for k in range(steps + 1)]


def sample_ddim(
    process: ReverseProcess, z: Tensor, grid: Sequence[float], noise: RowNoise
) -> Tensor:
    """DDIM with eta = 0, first order (Song, Meng and Ermon 2021, eq. 12)."""
    for t, s in pairwise(grid):
        z = torch.where(process.generated, _ddim_step(process, z, process.noise_at(z, t), t, s), z)
    return z


def sample_heun(
    process: ReverseProcess, z: Tensor, grid: Sequence[float], noise: RowNoise
) -> Tensor:
    """Heun's method on the probability-flow ODE d(z/alpha) = eps d(sigma/alpha), second order.

    Two evaluations a step, one on the step to 0. (Karras et al. 2022, algorithm 1.)
    """
    for t, s in pairwise(grid):
        eps = process.noise_at(z, t)
        ahead = torch.where(process.generated, _ddim_step(process, z, eps, t, s), z)
        if s > 0:
            eps = (eps + process.noise_at(ahead, s)) / 2
            ahead = torch.where(process.generated, _ddim_step(process, z, eps, t, s), z)
        z = ahead
    return z


def _ddim_step(process: ReverseProcess, z: Tensor, eps: Tensor, t: float, s: float) -> Tensor:
    """z/alpha moves along eps by the change of sigma/alpha."""
    (alpha_t, sigma_t, _), (alpha_s, sigma_s, _) = process.scales(t), process.scales(s)
    return alpha_s / alpha_t * z + (sigma_s - alpha_s * sigma_t / alpha_t) * eps


def sample_dpm_solver_pp(
    process: ReverseProcess, z: Tensor, grid: Sequence[float], noise: RowNoise
) -> Tensor:
    """DPM-Solver++(2M), second order, one evaluation a step (Lu et al. 2022, algorithm 2)."""

    def move(z: Tensor, data: Tensor, t: float, s: float) -> Tensor:
        (_, sigma_t, lambda_t), (alpha_s, sigma_s, lambda_s) = map(process.scales, (t, s))
        return sigma_s / sigma_t * z - alpha_s * math.expm1(lambda_t - lambda_s) * data

    return _multistep(process, z, grid, move)


def sample_sde_dpm_solver_pp(
    process: ReverseProcess, z: Tensor, grid: Sequence[float], noise: RowNoise
) -> Tensor:
    """SDE-DPM-Solver++(2M): the same with fresh noise at each step (Lu et al. 2022)."""

    def move(z: Tensor, data: Tensor, t: float, s: float) -> Tensor:
        (_, sigma_t, lambda_t), (alpha_s, sigma_s, lambda_s) = map(process.scales, (t, s))
        shrink, fresh = math.exp(lambda_t - lambda_s), -math.expm1(2 * (lambda_t - lambda_s))
        moved = sigma_s / sigma_t * shrink * z + alpha_s * fresh * data
        return moved if s == 0 else moved + sigma_s * math.sqrt(fresh) * noise()

    return _multistep(process, z, grid, move)


def _multistep(
    process: ReverseProcess,
    z: Tensor,
    grid: Sequence[float],
    move: Callable[[Tensor, Tensor, float, float], Tensor],
) -> Tensor:
    """Steps of `move` towards the clean latent, extrapolated from this estimate and the last.

    The first step and the step to 0 use this estimate alone.
    """
    last: Tensor | None = None
    h_last = 0.0
    for t, s in pairwise(grid):
        alpha, sigma, half_log_snr = process.scales(t)
        estimate = (z - sigma * process.noise_at(z, t)) / alpha
        h = process.scales(s)[2] - half_log_snr
        ahead = estimate
        if last is not None and s > 0:
            ahead = estimate + h / h_last / 2 * (estimate - last)
        z = torch.where(process.generated, move(z, ahead, t, s), z)
        last, h_last = estimate, h
    return z


def sample_euler_maruyama(
    process: ReverseProcess, z: Tensor, grid: Sequence[float], noise: RowNoise
) -> Tensor:
    """Euler-Maruyama on the reverse SDE (Song et al. 2021, eq. 6); noiseless on the step to 0."""
    for t, s in pairwise(grid):
        z = torch.where(process.generated, _reverse_sde_step(process, z, t, s, noise), z)
    return z


def sample_repaint(
    process: ReverseProcess, z: Tensor, grid: Sequence[float], noise: RowNoise
) -> Tensor:
    """The paper's sampler: Euler-Maruyama that jumps back 10 steps, 10 times over.

    The observed block stays clean at time 0 and only the generated one is noised again, by the
    exact kernel (the official code takes Euler steps, which drift). On the uniform grid of 250
    steps these are 2,410 evaluations. (Lugmayr et al. 2022, algorithm 1 and its schedule.)
    """
    for here, there in _repaint_moves(len(grid) - 1):
        if there > here:
            moved = _reverse_sde_step(process, z, grid[here], grid[there], noise)
        else:
            moved = _renoise(process, z, grid[here], grid[there], noise)
        z = torch.where(process.generated, moved, z)
    return z


def _repaint_moves(steps: int, jump: int = 10, visits: int = 10) -> Iterator[tuple[int, int]]:
    """Pairs of grid indices: down by one, and back up by `jump` wherever a jump is still due.

    With k counting the steps still to go, jumps start at k = 0, jump, 2 jump, ... below
    steps − jump; each is made visits − 1 times.
    """
    due = dict.fromkeys(range(0, steps - jump, jump), visits - 1)
    to_go = steps
    while to_go > 0:
        yield steps - to_go, steps - to_go + 1
        to_go -= 1
        if due.get(to_go, 0) > 0:
            due[to_go] -= 1
            yield steps - to_go, steps - to_go - jump
            to_go += jump


def _reverse_sde_step(
    process: ReverseProcess, z: Tensor, t: float, s: float, noise: RowNoise
) -> Tensor:
    """z − (f − g² score) dt + g √dt noise, with f = −½ beta z and g² = beta."""
    dt = t - s
    beta = process.schedule.beta(torch.tensor(t)).item()
    at = torch.full((len(z), 1), t, device=z.device)
    score = process.schedule.score_from_noise(process.noise_at(z, t), at)
    moved = z + dt * beta * (z / 2 + score)
    return moved + math.sqrt(beta * dt) * noise() if s > 0 else moved


def _renoise(process: ReverseProcess, z: Tensor, t: float, s: float, noise: RowNoise) -> Tensor:
    """From time t up to s by the exact kernel."""
    (alpha_t, sigma_t, _), (alpha_s, sigma_s, _) = process.scales(t), process.scales(s)
    ratio = alpha_s / alpha_t
    return ratio * z + math.sqrt(sigma_s**2 - ratio**2 * sigma_t**2) * noise()


@dataclass(frozen=True)
class Method:
    """A sampler with the grid that suits it."""

    sample: Sampler
    grid: Callable[[VPSchedule, int], list[float]]


SAMPLERS = {
    "dpm-solver++": Method(sample_dpm_solver_pp, time_grid),
    "sde-dpm-solver++": Method(sample_sde_dpm_solver_pp, time_grid),
    "ddim": Method(sample_ddim, time_grid),
    "heun": Method(sample_heun, time_grid),
    "euler-maruyama": Method(sample_euler_maruyama, uniform_grid),
    "repaint": Method(sample_repaint, uniform_grid),
}

__all__ = [
    "SAMPLERS",
    "Method",
    "ReverseProcess",
    "RowNoise",
    "Sampler",
    "sample_ddim",
    "sample_dpm_solver_pp",
    "sample_euler_maruyama",
    "sample_heun",
    "sample_repaint",
    "sample_sde_dpm_solver_pp",
    "time_grid",
    "uniform_grid",
]
