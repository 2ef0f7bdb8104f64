"""Log-density of latents under a trained network, by its probability flow or by its errors.

In log-SNR λ the flow is dx/dλ = ½ σ (σ x − e(x, λ)). Along it the log-density changes by the
divergence of the flow, and at pure noise it is that of a standard normal (Song et al. 2021,
eq. 39). The integral of denoising errors (`estimator`) is noisy, but integrates the quantity that
training minimises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.integrate import solve_ivp
from torch import Generator, Tensor

from mld_core.diffusion.multi_time import multi_time_vector
from mld_core.diffusion.roles import Role
from mld_core.diffusion.sampling import ScoreModel
from mld_core.diffusion.schedule import T_MIN
from mld_core.information.estimator import (
    NODES,
    check_density,
    joint_latent,
    roles_for_density,
    surprisal,
)
from mld_core.information.measures import Density

MAX_EXACT_DIM = 32
"""Up to this dimension the divergence is computed exactly; above, it is estimated."""

NUM_PROBES = 8
"""Random directions of an estimated divergence."""


@dataclass(frozen=True)
class LogDensity:
    """log p(of | given) of each row, in nats.

    Args:
        standardised: density of the standardised latents.
        raw: density of the raw latents: `standardised` minus the sum of their log std.
        standard_error: of the noise of an integral of errors; 0 for a flow.
        evaluations: network evaluations per row; those of a flow include derivatives.
    """

    standardised: Float[Tensor, " row"]
    raw: Float[Tensor, " row"]
    standard_error: Float[Tensor, " row"]
    evaluations: int


@dataclass
class _Flow:
    """dx/dλ and its divergence, of the generated coordinates x.

    Args:
        generated: indices of the generated coordinates.
        context: the joint latent, with the observed latents and the content of absent ones.
        probes: random directions of an estimated divergence; None: the divergence is exact.
    """

    model: ScoreModel
    roles: Int64[Tensor, "1 modality"]
    generated: Int64[Tensor, " dimension"]
    context: Float[Tensor, "row joint"]
    probes: Float[Tensor, "probe row dimension"] | None

    def __call__(
        self, x: Float[Tensor, "row dimension"], log_snr: float
    ) -> tuple[Float[Tensor, "row dimension"], Float[Tensor, " row"]]:
        t = self.model.schedule.time_at_log_snr(torch.tensor(log_snr).to(x))
        sigma = self.model.schedule.sigma(t)
        times = multi_time_vector(t.expand(1, 1), self.roles)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            z = self.context.index_copy(1, self.generated, x)
            eps = self.model.predict_noise(z, times, self.roles)[:, self.generated]
            # Trace of ∂eps/∂x: exact, or Hutchinson's estimate with the same probes at every λ.
            unit_vectors = torch.eye(x.shape[1]).to(x)[:, None].expand(-1, len(x), -1)
            products = [
                (direction * torch.autograd.grad(eps, x, direction, retain_graph=True)[0]).sum(1)
                for direction in (unit_vectors if self.probes is None else self.probes)
            ]
            stacked = torch.stack(products)
            trace = stacked.sum(0) if self.probes is None else stacked.mean(0)
        divergence = sigma / 2 * (sigma * x.shape[1] - trace)
        return sigma / 2 * (sigma * x - eps).detach(), divergence


@torch.no_grad()
def log_density(
    model: ScoreModel,
    latents: Mapping[str, Float[Tensor, "row _"]],
    density: Density,
    tolerance: float = 1e-5,
    max_exact_dim: int = MAX_EXACT_DIM,
    seed: int = 0,
) -> LogDensity:
    """log p of rows of raw latents by the flow, solved by a Runge-Kutta method of order 5.

    ValueError if the model was not trained for the density.

    Args:
        latents: raw, by modality; at least those of the density.
        tolerance: relative and absolute, of the solver.
        max_exact_dim: up to this dimension the divergence is exact.
        seed: of the probes, and of absent latents (independent scheme).
    """
    check_density(model, density, latents)
    z = joint_latent(model, latents)
    roles = roles_for_density(model, density)
    role = model.layout.expand(roles[None])[0]
    generated = torch.nonzero(role == Role.GENERATED).squeeze(1)
    generator = Generator().manual_seed(seed)
    absent_fill = torch.zeros_like(z)
    if model.scheme == "independent":
        absent_fill = torch.randn(z.shape, generator=generator).to(z)
    probes = None
    if len(generated) > max_exact_dim:
        shape = (NUM_PROBES, len(z), len(generated))
        probes = 2 * torch.randint(0, 2, shape, generator=generator).to(z) - 1
    context = torch.where(role == Role.OBSERVED, z, absent_fill)
    flow = _Flow(model, roles[None], generated, context, probes)
    levels = model.schedule.log_snr(torch.tensor([T_MIN, 1.0], dtype=torch.float64)).tolist()
    alpha = model.schedule.alpha(torch.tensor(T_MIN, dtype=torch.float64))

    def derivative(log_snr: float, state: Any) -> Any:
        x = torch.from_numpy(state.reshape(len(z), -1)[:, :-1]).to(z)
        dx, divergence = flow(x, log_snr)
        return torch.cat([dx, divergence[:, None]], 1).cpu().double().numpy().ravel()

    start = torch.cat([alpha.to(z) * z[:, generated], torch.zeros_like(z[:, :1])], 1)
    solution = solve_ivp(
        derivative, levels, start.cpu().double().numpy().ravel(), rtol=tolerance, atol=tolerance
    )
    end = torch.from_numpy(np.ascontiguousarray(solution.y[:, -1]).reshape(len(z), -1))
    x, integrated_divergence = end[:, :-1], end[:, -1]
    normal = -(x.square().sum(1) + len(generated) * np.log(2 * np.pi)) / 2
    # The flow starts at T_MIN from alpha times the latent: the last term undoes this scaling.
    log_p = normal + integrated_divergence + len(generated) * alpha.log()
    log_p = log_p.to(z.dtype)
    raw = log_p - log_scale(model, density.of)
    return LogDensity(log_p, raw, torch.zeros_like(log_p), int(solution.nfev))


def log_density_by_errors(
    model: ScoreModel,
    latents: Mapping[str, Float[Tensor, "row _"]],
    density: Density,
    seed: int = 0,
    held_out: Mapping[str, Float[Tensor, "_ _"]] | None = None,
) -> LogDensity:
    """log p of rows of raw latents by the integral of errors, with the same noise for every row.

    `seed` and `held_out` as in `surprisal`. ValueError as from `log_density`.
    """
    measure = {density: 1.0}
    result = surprisal(model, latents, [measure], seed, shared=True, held_out=held_out)
    value, error = result.rows(measure)
    return LogDensity(-value, -value - log_scale(model, density.of), error, 2 * NODES)


def log_scale(model: ScoreModel, names: Sequence[str]) -> float:
    """Sum of the log standard deviations of some modalities' raw latents."""
    log_std = model.layout.split(model.standardiser.std.double().log()[None])
    return sum(float(log_std[name].sum()) for name in names)
