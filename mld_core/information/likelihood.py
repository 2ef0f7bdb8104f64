"""The log-density of latents under a trained network: by its probability flow, or its errors.

In log-SNR λ the flow is dx/dλ = ½ σ (σ x − e(x, λ)); along it the log-density changes by the
flow's divergence, and at pure noise it is that of a standard normal (Song et al. 2021, eq. 39).
The integral of errors (`information`) has noise, but is of the quantity that training minimises.
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
    check_known,
    joint_latent,
    roles_for_density,
    surprisal,
)
from mld_core.information.measures import Density

EXACT = 32
"""Up to this many dimensions the divergence is exact; beyond it is estimated."""

PROBES = 8
"""Random directions of an estimated divergence."""


@dataclass(frozen=True)
class LogDensity:
    """log p(of | given) of each row, in nats.

    Args:
        standardised: per unit of the standardised latents.
        raw: per unit of the raw ones: less the sum of the logs of their standard deviations.
        standard_error: of the noise of an integral of errors; a flow has none.
        evaluations: of the network for each row; each of a flow also has its derivatives taken.
    """

    standardised: Float[Tensor, " row"]
    raw: Float[Tensor, " row"]
    standard_error: Float[Tensor, " row"]
    evaluations: int


@dataclass
class _Flow:
    """dx/dλ and its divergence for rows that share their roles."""

    model: ScoreModel
    roles: Int64[Tensor, "row modality"]
    free: Int64[Tensor, " dimension"]
    known: Float[Tensor, "row joint"]
    probes: Float[Tensor, "probe row dimension"] | None

    def __call__(
        self, x: Float[Tensor, "row dimension"], log_snr: float
    ) -> tuple[Float[Tensor, "row dimension"], Float[Tensor, " row"]]:
        t = self.model.schedule.time_at_log_snr(torch.tensor(log_snr).to(x))
        sigma = self.model.schedule.sigma(t)
        times = multi_time_vector(t.expand(len(x), 1), self.roles)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            whole = self.known.index_copy(1, self.free, x)
            eps = self.model.predict_noise(whole, times, self.roles)[:, self.free]
            trace = self._trace(x, eps)
        divergence = sigma / 2 * (sigma * x.shape[1] - trace)
        return sigma / 2 * (sigma * x - eps).detach(), divergence

    def _trace(
        self, x: Float[Tensor, "row dimension"], eps: Float[Tensor, "row dimension"]
    ) -> Float[Tensor, " row"]:
        """Of ∂eps/∂x: exact, or Hutchinson's estimate from the same probes at every λ."""
        unit = torch.eye(x.shape[1]).to(x)[:, None].expand(-1, len(x), -1)
        directions = unit if self.probes is None else self.probes
        products = [
            (own * torch.autograd.grad(eps, x, own, retain_graph=True)[0]).sum(1)
            for own in directions
        ]
        stacked = torch.stack(products)
        return stacked.sum(0) if self.probes is None else stacked.mean(0)


@torch.no_grad()
def log_density(
    model: ScoreModel,
    latents: Mapping[str, Float[Tensor, "row _"]],
    density: Density,
    tolerance: float = 1e-5,
    exact: int = EXACT,
    seed: int = 0,
) -> LogDensity:
    """log p of rows of raw latents by the flow, solved by a Runge-Kutta method of order 5.

    ValueError if the model's scheme taught nothing about the density.

    Args:
        model: the trained network.
        latents: raw, by modality, all that the density names.
        density: what of, given what.
        tolerance: of the solver, relative and absolute.
        exact: up to this many dimensions the divergence is exact.
        seed: of the probes beyond.
    """
    check_known(model, density, latents)
    z = joint_latent(model, latents)
    pattern = roles_for_density(model, density)
    role = model.layout.expand(pattern[None])[0]
    free = torch.nonzero(role == Role.GENERATED).squeeze(1)
    generator = Generator().manual_seed(seed)
    blank = torch.zeros_like(z)
    if model.scheme == "independent":
        blank = torch.randn(z.shape, generator=generator).to(z)
    probes = None
    if len(free) > exact:
        shape = (PROBES, len(z), len(free))
        probes = 2 * torch.randint(0, 2, shape, generator=generator).to(z) - 1
    known = torch.where(role == Role.OBSERVED, z, blank)
    flow = _Flow(model, pattern.expand(len(z), -1), free, known, probes)
    levels = model.schedule.log_snr(torch.tensor([T_MIN, 1.0], dtype=torch.float64)).tolist()
    alpha = model.schedule.alpha(torch.tensor(T_MIN, dtype=torch.float64))

    def rates(log_snr: float, state: Any) -> Any:
        x = torch.from_numpy(state.reshape(len(z), -1)[:, :-1]).to(z)
        moved, divergence = flow(x, log_snr)
        return torch.cat([moved, divergence[:, None]], 1).double().cpu().numpy().ravel()

    start = torch.cat([alpha.to(z) * z[:, free], torch.zeros_like(z[:, :1])], 1)
    solved = solve_ivp(
        rates, levels, start.double().cpu().numpy().ravel(), rtol=tolerance, atol=tolerance
    )
    end = torch.from_numpy(np.ascontiguousarray(solved.y[:, -1]).reshape(len(z), -1))
    x, grown = end[:, :-1], end[:, -1]
    normal = -(x.square().sum(1) + len(free) * np.log(2 * np.pi)) / 2
    # From x at T_MIN, which is alpha times the latent, back to the latent.
    own = normal + grown + len(free) * alpha.log()
    own = own.to(z.dtype)
    return LogDensity(
        own, own - log_scale(model, density.of), torch.zeros_like(own), int(solved.nfev)
    )


def log_density_by_errors(
    model: ScoreModel,
    latents: Mapping[str, Float[Tensor, "row _"]],
    density: Density,
    seed: int = 0,
    held_out: Mapping[str, Float[Tensor, "_ _"]] | None = None,
) -> LogDensity:
    """The same by the integral of errors, from the same noise for every row.

    `seed` and `held_out` as `surprisal` takes them. ValueError as from `log_density`.
    """
    found = surprisal(model, latents, [{density: 1.0}], seed, shared=True, held_out=held_out)
    value, error = found.rows({density: 1.0})
    return LogDensity(-value, -value - log_scale(model, density.of), error, 2 * NODES)


def log_scale(model: ScoreModel, names: Sequence[str]) -> float:
    """The sum of the logs of the standard deviations of some modalities' raw latents."""
    own = model.layout.split(model.standardiser.std.double().log()[None])
    return sum(float(own[name].sum()) for name in names)
