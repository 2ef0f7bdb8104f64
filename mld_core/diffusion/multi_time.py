"""The multi-time vector: one time per modality, and the loss that it masks."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import T_MIN, VPSchedule

UNIFORM_FRACTION = 0.1
LOG_SNR_MEAN = -0.5
LOG_SNR_SPREAD = 2.0


def draw_times(batch: int, schedule: VPSchedule, generator: Generator) -> Float[Tensor, " batch"]:
    """Times in [T_MIN, 1] for training, most of them where what a row shows is decided.

    A tenth is uniform in log-SNR over the whole range, the rest normal in log-SNR, near where
    signal and noise are equal; stratified over the batch. With times uniform in [0, 1], as in the
    paper, half the rows are almost pure noise, and modalities learn of each other slowly.
    """
    device = generator.device
    slices = torch.randperm(batch, generator=generator, device=device)
    u = (slices + torch.rand(batch, generator=generator, device=device)) / batch
    ends = schedule.log_snr(torch.tensor([1.0, T_MIN], device=device))
    broad = ends[0] + (ends[1] - ends[0]) * u / UNIFORM_FRACTION
    central = ((u - UNIFORM_FRACTION) / (1 - UNIFORM_FRACTION)).clamp(1e-6, 1 - 1e-6)
    normal = LOG_SNR_MEAN + LOG_SNR_SPREAD * torch.special.ndtri(central)
    log_snr = torch.where(u < UNIFORM_FRACTION, broad, normal)
    return schedule.time_at_log_snr(log_snr).clamp(T_MIN, 1)


def multi_time_vector(
    t: Float[Tensor, " batch #modality"], roles: Int64[Tensor, "batch modality"]
) -> Float[Tensor, "batch modality"]:
    """One time per modality: t where it is generated, 0 where observed, 1 where absent.

    t = 0 is clean and t = 1 is noise, so an observed modality enters the network unspoilt.
    (Bounoua et al. 2023, the multi-time vector τ(A₁, t); the value for ABSENT is ours.)
    """
    clean_or_t = torch.where(roles == Role.OBSERVED, 0.0, t)
    return torch.where(roles == Role.ABSENT, 1.0, clean_or_t)


def diffuse(
    z: Float[Tensor, "batch joint"],
    eps: Float[Tensor, "batch joint"],
    times: Float[Tensor, "batch modality"],
    roles: Int64[Tensor, "batch modality"],
    blank: Float[Tensor, "batch joint"],
    layout: LatentLayout,
    schedule: VPSchedule,
) -> Float[Tensor, "batch joint"]:
    """The network's input: alpha z + sigma eps where generated, z where observed, else `blank`."""
    t, role = layout.expand(times), layout.expand(roles)
    noisy = schedule.alpha(t) * z + schedule.sigma(t) * eps
    return torch.where(role == Role.GENERATED, noisy, torch.where(role == Role.OBSERVED, z, blank))


def masked_loss(
    eps_hat: Float[Tensor, "batch joint"],
    eps: Float[Tensor, "batch joint"],
    times: Float[Tensor, "batch modality"],
    roles: Int64[Tensor, "batch modality"],
    layout: LatentLayout,
    schedule: VPSchedule,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """The mean squared error of the velocity over generated coordinates; also by modality.

    The velocity is v = alpha eps − sigma z, so its error is that of the noise over alpha
    (Salimans and Ho 2022). The paper takes the noise's own error, which all but vanishes where
    signal is scarce; yet it is there that a row's class is decided, and that an observed modality
    has to be read.

    The mean is over a row's generated coordinates, then over the rows that have any, so its scale
    depends neither on the batch nor on the widths. (The official factor D / |A₁| on a sum over the
    generated block A₁ is D times this mean.) The part of a modality that no row generates is 0,
    and so is the loss without any generated coordinate.
    """
    mask = layout.expand((roles == Role.GENERATED).to(eps.dtype))
    alpha = schedule.alpha(layout.expand(times))
    errors = mask * ((eps_hat - eps) / alpha).square()
    widths = mask.sum(1)
    rows = errors.sum(1) / widths.clamp(min=1)
    total = rows.sum() / (widths > 0).sum().clamp(min=1)
    sums, counts = layout.split(errors), layout.split(mask)
    parts = {
        name: (sums[name].sum() / counts[name].sum().clamp(min=1)).detach() for name in layout.dims
    }
    return total, parts
