"""The variance-preserving noise schedule.

t runs from 0 (clean data) to 1 (noise): z_t = alpha(t) z + sigma(t) eps, eps ~ N(0, I), with
alpha² + sigma² = 1. (Song et al. 2021, the VP-SDE.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from mld_core.diffusion.latent_layout import JointLatent, Times
from mld_core.diffusion.limits import MAX_BETA_SUM

T_MIN = 1e-5
"""Smallest time that is diffused to; closer to 0 the noise is lost in float32 rounding."""


@dataclass(frozen=True)
class VPSchedule:
    """The linear schedule beta(t) = beta_min + t (beta_max − beta_min) and its functions of time.

    All methods act elementwise on times in [0, 1], in the precision of their argument.

    Args:
        beta_min: beta at t = 0, positive.
        beta_max: beta at t = 1, at least beta_min; their sum is at most MAX_BETA_SUM.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(f"need 0 < beta_min <= beta_max, got {self.beta_min}, {self.beta_max}")
        if self.beta_min + self.beta_max > MAX_BETA_SUM:
            raise ValueError(
                f"need beta_min + beta_max <= {MAX_BETA_SUM:g}, got {self.beta_min} + "
                f"{self.beta_max}: alpha(1) would be too small for float32"
            )

    def beta(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Rate of the forward SDE dz = −½ beta z dt + sqrt(beta) dW."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def integrated_beta(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Integral of beta from 0 to t."""
        return t * (self.beta_min + t * (self.beta_max - self.beta_min) / 2)

    def alpha(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Scale of the signal, 1 at t = 0; its square is the alpha-bar of DDPM."""
        return torch.exp(-self.integrated_beta(t) / 2)

    def sigma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Standard deviation of the noise, 0 at t = 0.

        Computed by expm1, since sqrt(1 − alpha²) is 9 % off at t = 1e-6 in float32.
        """
        return torch.sqrt(-torch.expm1(-self.integrated_beta(t)))

    def log_snr(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """log(alpha² / sigma²), falling from +∞ at t = 0; its derivative is −beta / sigma²."""
        return -torch.log(torch.expm1(self.integrated_beta(t)))

    def time_at_log_snr(self, log_snr: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Inverse of `log_snr`: the numerically stable root of the quadratic in t."""
        integral = softplus(-log_snr)
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral)
        return 2 * integral / (self.beta_min + root)

    def of_unit_variance(
        self, times: Times, latent_std: Float[Tensor, " modality"]
    ) -> tuple[Times, Times, Times]:
        """alpha and sigma of z_t divided by its standard deviation, and this deviation.

        z_t / std = alpha' z / latent_std + sigma' eps, with alpha'² + sigma'² = 1. This is z_t of
        latents of unit variance whose log-SNR is lower by −2 log(latent_std), and z_t itself, bit
        for bit, if latent_std is 1.

        Args:
            latent_std: standard deviation of the latents of each modality.
        """
        alpha, sigma = self.alpha(times), self.sigma(times)
        scaled = torch.sqrt((alpha * latent_std).square() + sigma.square())
        std = torch.where(latent_std == 1, 1.0, scaled)
        return alpha * latent_std / std, sigma / std, std

    def score_from_noise(self, eps: JointLatent, t: Float[Tensor, "*#batch #joint"]) -> JointLatent:
        """∇ log p_t = −eps / sigma(t)."""
        return -eps / self.sigma(t)
