"""Training with a multi-time vector: one diffusion time per modality, and the masked loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, Roles, Times
from mld_core.diffusion.purpose import Purpose
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import T_MIN, VPSchedule


@dataclass(frozen=True)
class TimeDistribution:
    """Of log-SNR: partly uniform over the whole range, else normal.

    Args:
        uniform: the fraction that is uniform.
    """

    uniform: float
    mean: float
    std: float


TRAINING_TIMES: Mapping[Purpose, TimeDistribution] = {
    "samples": TimeDistribution(uniform=0.1, mean=-0.5, std=2.0),
    "information": TimeDistribution(uniform=0.3, mean=1.0, std=2.5),
}
"""For samples, most times are those at which a class is decided. The errors that bias densities
are mostly made at higher SNR, and every level counts the same."""


def draw_times(
    batch: int, schedule: VPSchedule, generator: Generator, purpose: Purpose = "samples"
) -> Float[Tensor, " batch"]:
    """Training times in [T_MIN, 1], concentrated where they matter most for the purpose.

    Distributed as in TRAINING_TIMES and stratified over the batch. Times uniform in [0, 1], as in
    the paper, make half of the rows almost pure noise, and the dependence between modalities is
    then learnt slowly.
    """
    device = generator.device
    strata = torch.randperm(batch, generator=generator, device=device)
    u = (strata + torch.rand(batch, generator=generator, device=device)) / batch
    ends = schedule.log_snr(torch.tensor([1.0, T_MIN], device=device))
    times = TRAINING_TIMES[purpose]
    uniform = ends[0] + (ends[1] - ends[0]) * u / times.uniform
    rest = ((u - times.uniform) / (1 - times.uniform)).clamp(1e-6, 1 - 1e-6)
    normal = times.mean + times.std * torch.special.ndtri(rest)
    log_snr = torch.where(u < times.uniform, uniform, normal)
    return schedule.time_at_log_snr(log_snr).clamp(T_MIN, 1)


def multi_time_vector(t: Float[Tensor, "*#batch #modality"], roles: Roles) -> Times:
    """One time per modality: t where GENERATED, 0 where OBSERVED, 1 where ABSENT.

    t = 0 is clean and t = 1 is noise, so an observed modality enters the network without noise.
    (Bounoua et al. 2023, the multi-time vector τ(A₁, t); the value for ABSENT is ours.)
    """
    clean_or_t = torch.where(roles == Role.OBSERVED, 0.0, t)
    return torch.where(roles == Role.ABSENT, 1.0, clean_or_t)


def diffuse(
    z: JointLatent,
    eps: JointLatent,
    times: Times,
    roles: Roles,
    absent_fill: JointLatent,
    layout: LatentLayout,
    schedule: VPSchedule,
) -> JointLatent:
    """The network's input: alpha z + sigma eps, or `absent_fill` where ABSENT.

    An OBSERVED modality has time 0, where this is z.
    """
    alpha, sigma = layout.expand(schedule.alpha(times)), layout.expand(schedule.sigma(times))
    return torch.where(layout.expand(roles == Role.ABSENT), absent_fill, alpha * z + sigma * eps)


def masked_loss(
    eps_hat: JointLatent,
    eps: JointLatent,
    times: Times,
    roles: Roles,
    layout: LatentLayout,
    schedule: VPSchedule,
    balance: float,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Mean squared error of the velocity over GENERATED coordinates, in total and by modality.

    The velocity is v = alpha eps − sigma z, so its error is that of the noise divided by alpha
    (Salimans and Ho 2022), both of latents of unit variance, whatever the layout's `latent_std`.
    The paper minimises the error of the noise, which nearly vanishes at low SNR; yet it is there
    that the class of a sample is decided, so that the network must learn to use the observed
    modalities.

    The mean is over a row's generated coordinates, then over the rows that have any, so its scale
    does not depend on the batch size or on latent widths. (The official factor D / |A₁| on a sum
    over the generated block A₁ is D times this mean.) The loss of a modality that no row generates
    is 0, and so is the total if no row generates anything.

    Args:
        balance: b in [0, 1]. A coordinate of a modality of width D_i has the weight D_i^−b in the
            mean of a row, so 0 weighs all coordinates alike and 1 all modalities alike.
    """
    generated = (roles == Role.GENERATED).to(eps.dtype)
    alpha, _, _ = schedule.of_unit_variance(times, layout.latent_std.to(times))
    errors = generated * layout.mean_square((eps_hat - eps) / layout.expand(alpha))
    dims = torch.tensor([*layout.dims.values()], dtype=eps.dtype, device=eps.device)
    weights = generated * dims ** (1 - balance)
    # At least 1 where anything is generated.
    row_weights = weights.sum(1)
    row_losses = (errors * weights).sum(1) / row_weights.clamp(min=1)
    total = row_losses.sum() / (row_weights > 0).sum().clamp(min=1)
    by_modality = errors.detach().sum(0) / generated.sum(0).clamp(min=1)
    return total, dict(zip(layout.dims, by_modality, strict=True))
