"""The variance-preserving noise schedule, and the one place that divides by sigma.

t runs from 0 (clean data) to 1 (noise): z_t = alpha(t) z + sigma(t) eps, eps ~ N(0, I), with
alpha² + sigma² = 1. (Song et al. 2021, the VP-SDE.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from mld_core.diffusion.limits import check_betas

T_MIN = 1e-5
"""The smallest time at which anything is diffused; closer to 0 the noise drowns in rounding."""


@dataclass(frozen=True)
class VPSchedule:
    """beta(t) = beta_min + t (beta_max − beta_min), and what follows from it.

    All methods work elementwise on times in [0, 1], in the precision of their argument.

    Args:
        beta_min: the rate of noising at t = 0, positive.
        beta_max: the rate at t = 1, at least beta_min.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        check_betas(self.beta_min, self.beta_max)

    def beta(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The rate of noising: dz = −½ beta z dt + sqrt(beta) dW."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def integrated_beta(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The integral of beta from 0 to t."""
        return t * (self.beta_min + t * (self.beta_max - self.beta_min) / 2)

    def alpha(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The scale of the signal, 1 at t = 0; its square is the alpha-bar of DDPM."""
        return torch.exp(-self.integrated_beta(t) / 2)

    def sigma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The standard deviation of the noise, 0 at t = 0.

        Through expm1: sqrt(1 − alpha²) is 9 % off at t = 1e-6 in float32.
        """
        return torch.sqrt(-torch.expm1(-self.integrated_beta(t)))

    def log_snr(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """log(alpha² / sigma²): falls from +∞ at t = 0; its derivative is −beta / sigma²."""
        return -torch.log(torch.expm1(self.integrated_beta(t)))

    def time_at_log_snr(self, log_snr: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The inverse of `log_snr`: the stable root of the quadratic in t."""
        dose = softplus(-log_snr)
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * dose)
        return 2 * dose / (self.beta_min + root)

    def score_from_noise(
        self, eps: Float[Tensor, "batch joint"], t: Float[Tensor, "#batch #joint"]
    ) -> Float[Tensor, "batch joint"]:
        """∇ log p_t = −eps / sigma(t)."""
        return -eps / self.sigma(t)

    def noise_from_score(
        self, score: Float[Tensor, "batch joint"], t: Float[Tensor, "#batch #joint"]
    ) -> Float[Tensor, "batch joint"]:
        """eps = −sigma(t) ∇ log p_t."""
        return -score * self.sigma(t)

    def noise_from_velocity(
        self,
        v: Float[Tensor, "batch joint"],
        z: Float[Tensor, "batch joint"],
        t: Float[Tensor, "#batch #joint"],
    ) -> Float[Tensor, "batch joint"]:
        """eps = sigma z_t + alpha v, where v = alpha eps − sigma z_0 (Salimans and Ho 2022)."""
        return self.sigma(t) * z + self.alpha(t) * v

    def data_from_noise(
        self,
        z: Float[Tensor, "batch joint"],
        eps: Float[Tensor, "batch joint"],
        t: Float[Tensor, "#batch #joint"],
    ) -> Float[Tensor, "batch joint"]:
        """The clean latent that z_t and its noise imply: (z_t − sigma eps) / alpha (Tweedie)."""
        return (z - self.sigma(t) * eps) / self.alpha(t)
