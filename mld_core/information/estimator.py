"""Information from a trained network: what modalities tell about each other, in nats.

Everything is a weighted sum of −log densities, and each of these an integral of errors of the
predicted noise over the log-SNR λ, for standardised x in D dimensions:

    −log p(x|y) = ½|x|² + (D/2) log 2π + ½ ∫ E[|ε − e(x_λ|y)|² − |ε − σ x_λ|²] dλ

(pointwise I-MMSE: Kong, Brekelmans and Ver Steeg 2023). σ x_λ is the prediction for a standard
normal x, whose density is known; it takes most of the noise of ε out of the integrand. Where
densities are subtracted it cancels, and differences of errors remain (MINDE: Franzese, Bounoua and
Michiardi 2024). The squared difference of two predictions has the same mean over true rows, but
errors of the network only ever add to it, and single rows it ranks upside down.

λ takes the middles of equal strata, from pure noise to T_MIN. Each ε serves with both signs, and
all densities alike.

A network that has seen too few rows is too sure of itself where little noise is left, and there an
observed modality seems to tell less than nothing. So predictions may be recalibrated on held-out
rows: at each level e becomes σx + c (e − σx) + d (e(i) − σx), with e(i) the modality's marginal,
and c and d by least squares. For an exact score that is c = 1 and d = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from mld_core.diffusion.multi_time import multi_time_vector
from mld_core.diffusion.role_schemes import NO_MARGINALS_MESSAGE
from mld_core.diffusion.roles import Role, roles_for
from mld_core.diffusion.sampling import ScoreModel
from mld_core.diffusion.schedule import T_MIN
from mld_core.information.measures import Density, Measure, weighted_sum

NODES = 128
"""Noise levels of an integral, a power of two."""

ROWS_PER_CALL = 16384
"""Rows through the network at once, about."""

CALIBRATION_ROWS = 128
"""Held-out rows that recalibrate a noise level, at most; drawn anew for each."""

EPS = 1e-12
"""The smallest variance that a weight is made of."""

RIDGE = 4.0
"""How firmly calibration holds on to the network's own prediction: a spread of ½ about 1."""


@dataclass(frozen=True)
class Estimate:
    """A mean over rows.

    Args:
        value: in nats.
        standard_error: over rows; counts the noise of the integral, not the network's own bias.
        convergence: (noise levels, value, standard error) as the integral gets finer.
    """

    value: float
    standard_error: float
    convergence: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Surprisal:
    """−log p of rows under some densities, of standardised latents, by noise level.

    Args:
        base: under a standard normal distribution, by density.
        errors: |ε − e|² − |ε − σ x|² at each noise level, by density.
        span: the width of the range of λ.
    """

    base: Mapping[Density, Float[Tensor, " row"]]
    errors: Mapping[Density, Float[Tensor, "node row"]]
    span: float

    def rows(self, measure: Measure) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        """The measure of each row, and its standard error.

        The error is that of the noise, from how far each level's integrand is off the line between
        its neighbours' (Gasser, Sroka and Jennen-Steinmetz 1986).
        """
        levels = self._integrand(measure)
        nodes = len(levels)
        off = levels[:-2] - 2 * levels[1:-1] + levels[2:]
        variance = off.square().mean(0) / 6 / nodes
        return self._base(measure) + levels.mean(0), variance.sqrt()

    def estimate(self, *forms: Measure) -> Estimate:
        """The mean over rows. ValueError with fewer than two.

        Several forms of one quantity are weighted by their precision over rows: what a network
        predicts badly also scatters.
        """
        variances = [float(self.rows(form)[0].var(correction=0)) for form in forms]
        total = sum(1 / max(own, EPS) for own in variances)
        pairs = zip(variances, forms, strict=True)
        measure = weighted_sum(*((1 / max(own, EPS) / total, form) for own, form in pairs))
        levels, base = self._integrand(measure), self._base(measure)
        if len(base) < 2:
            raise ValueError(f"a mean with its standard error needs two rows, not {len(base)}")
        curve = []
        for step in (2**k for k in range(len(levels).bit_length() - 4, -1, -1)):
            part = levels[step // 2 :: step]
            rows = base + part.mean(0)
            error = float(rows.std()) / math.sqrt(len(rows))
            curve.append((len(part), float(rows.mean()), error))
        return Estimate(curve[-1][1], curve[-1][2], tuple(curve))

    def _base(self, measure: Measure) -> Float[Tensor, " row"]:
        return torch.stack([weight * self.base[own] for own, weight in measure.items()]).sum(0)

    def _integrand(self, measure: Measure) -> Float[Tensor, "node row"]:
        """What has the integral as its mean."""
        parts = [weight * self.errors[own] for own, weight in measure.items()]
        return self.span / 2 * torch.stack(parts).sum(0)


@torch.no_grad()
def surprisal(
    model: ScoreModel,
    latents: Mapping[str, Float[Tensor, "row _"]],
    measures: Sequence[Measure],
    seed: int,
    shared: bool,
    held_out: Mapping[str, Float[Tensor, "_ _"]] | None = None,
    nodes: int = NODES,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Surprisal:
    """What `measures` need of rows, from `nodes` noise levels.

    In the precision of the latents; float32 is enough for a network. ValueError for a density that
    the model's scheme taught nothing about, or of something that has no latents.

    Args:
        model: the trained network.
        latents: raw, by modality, all that the measures name; other ones are ignored.
        measures: weighted sums of −log densities.
        seed: of the noise.
        shared: every row gets the same noise, as single rows want that are to be compared, and
            does not depend on its batch; else each its own, so that a mean over rows has less.
        held_out: raw latents of rows that the network was not trained on, of every modality, to
            recalibrate its predictions on; not for a scheme without marginals.
        nodes: a power of two, at least 16.
        on_progress: called with the number of levels done.
    """
    densities = list(dict.fromkeys(density for measure in measures for density in measure))
    for density in densities:
        check_known(model, density, latents)
    if held_out is not None:
        for name in model.layout.names:
            check_known(model, Density((name,)), held_out)
    if nodes < 16 or nodes & (nodes - 1):
        raise ValueError(f"nodes must be a power of two from 16 on, not {nodes}")
    z = joint_latent(model, latents)
    trial = None if held_out is None else joint_latent(model, held_out).to(z)
    roles = torch.stack([roles_for_density(model, density) for density in densities])
    ends = model.schedule.log_snr(torch.tensor([1.0, T_MIN], dtype=torch.float64))
    low, high = ends.tolist()
    levels = low + (high - low) * (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
    size = max(1, ROWS_PER_CALL // (2 * (len(densities) + roles.shape[1])))
    errors = torch.empty(nodes, len(densities), len(z), dtype=z.dtype)
    generator, trials = (Generator().manual_seed(own) for own in (seed, seed + 1))
    for node, level in enumerate(model.schedule.time_at_log_snr(levels)):
        t, weights = level.to(z), torch.eye(1, 2).to(z)
        if trial is not None:
            own = trial[torch.randperm(len(trial), generator=trials)[:CALIBRATION_ROWS]]
            noise = torch.randn((len(own), 2, z.shape[1]), generator=trials).to(z)
            parts = zip(own.split(size), noise.split(size), strict=True)
            seen = [_products(model, own, draw, t, roles, True).sum(2) for own, draw in parts]
            weights = _calibrated(torch.stack(seen).sum(0))
        shape = (1 if shared else len(z), 2, z.shape[1])
        draws = torch.randn(shape, generator=generator).to(z).expand(len(z), -1, -1)
        for first in range(0, len(z), size):
            part = slice(first, first + size)
            products = _products(model, z[part], draws[part], t, roles, trial is not None)
            errors[node, :, part] = _errors(products, weights).cpu()
        on_progress(node + 1)
    mask = model.layout.expand(roles == Role.GENERATED).to(z)
    base = mask @ (z.square() + math.log(2 * math.pi)).T / 2
    return Surprisal(
        dict(zip(densities, base.cpu(), strict=True)),
        dict(zip(densities, errors.unbind(1), strict=True)),
        high - low,
    )


def _products(
    model: ScoreModel,
    z: Float[Tensor, "row joint"],
    draws: Float[Tensor, "row 2 joint"],
    t: Float[Tensor, ""],
    roles: Int64[Tensor, "density modality"],
    marginals: bool,
) -> Float[Tensor, "5 density row modality"]:
    """u·p, u·q, p·p, p·q and q·q at one noise level, over ε and −ε; 0 where nothing is generated.

    u = ε − σx, p = e − σx, and q = e(i) − σx, which is 0 without `marginals`.
    """
    layout, count, singles = model.layout, len(roles), roles.shape[1]
    asked = roles
    if marginals:
        alone = torch.full((singles, singles), int(Role.ABSENT), device=roles.device)
        asked = torch.cat([roles, alone.fill_diagonal_(int(Role.GENERATED))])
    eps, blank = draws.unbind(1)
    eps = torch.cat([eps, -eps])
    noisy = model.schedule.alpha(t) * z.repeat(2, 1) + model.schedule.sigma(t) * eps
    each = asked.repeat_interleave(len(eps), dim=0)
    times = multi_time_vector(t.expand(len(each), 1), each)
    role = layout.expand(each)
    idle = blank if model.scheme == "independent" else torch.zeros_like(z)
    x = torch.where(
        role == Role.ABSENT, idle.repeat(2 * len(asked), 1), noisy.repeat(len(asked), 1)
    )
    x = torch.where(role == Role.OBSERVED, z.repeat(2 * len(asked), 1), x)
    normal = model.schedule.sigma(t) * noisy
    p = model.predict_noise(x, times, each) - normal.repeat(len(asked), 1)
    p = torch.where(role == Role.GENERATED, p, 0.0).reshape(len(asked), len(eps), -1)
    q = p[count:].sum(0)
    p, u = p[:count], eps - normal
    inside = layout.expand(roles == Role.GENERATED)[:, None]
    owners = one_hot(layout.modality_index, singles).to(z)
    pairs = (u * p, u * q * inside, p * p, p * q, q * q * inside)
    summed = torch.stack([pair @ owners for pair in pairs])
    return (summed[:, :, : len(z)] + summed[:, :, len(z) :]) / 2


def _calibrated(
    products: Float[Tensor, "5 density modality"],
) -> Float[Tensor, "density 1 modality 2"]:
    """c and d, from sums over held-out rows: least squares, drawn gently to (1, 0)."""
    up, uq, pp, pq, qq = products
    left = torch.stack([torch.stack([pp, pq], -1), torch.stack([pq, qq], -1)], -2)
    prior = RIDGE * torch.eye(2).to(left)
    right = torch.stack([up, uq], -1) + prior[0]
    solved: Tensor = torch.linalg.solve(left + prior, right)
    return solved[:, None]


def _errors(
    products: Float[Tensor, "5 density row modality"], weights: Float[Tensor, "*#many 2"]
) -> Float[Tensor, "density row"]:
    """|u − c p − d q|² − |u|², over what is generated."""
    c, d = weights.unbind(-1)
    up, uq, pp, pq, qq = products
    each = c * (c * pp - 2 * up) + d * (d * qq - 2 * uq) + 2 * c * d * pq
    total: Tensor = each.sum(-1)
    return total


def joint_latent(
    model: ScoreModel, latents: Mapping[str, Float[Tensor, "row _"]]
) -> Float[Tensor, "row joint"]:
    """Standardised, on the model's device, with anything where there are no latents."""
    like = next(iter(latents.values()))
    z = model.layout.concatenate(
        {
            name: latents.get(name, torch.zeros(len(like), width, dtype=like.dtype))
            for name, width in model.layout.dims.items()
        }
    )
    return model.standardiser.standardise(z.to(model.device))


def roles_for_density(model: ScoreModel, density: Density) -> Int64[Tensor, " modality"]:
    """The roles that ask the network for a density."""
    return roles_for(model.layout.names, density.given, density.of, model.scheme).to(model.device)


def check_known(model: ScoreModel, density: Density, latents: Mapping[str, Tensor]) -> None:
    """ValueError if there are no latents for a density, or the model cannot know it."""
    names = [*density.of, *density.given]
    lacking = [name for name in names if name not in model.layout.names or name not in latents]
    if lacking:
        raise ValueError(f"no latents of {', '.join(lacking)}")
    partly = len(names) < len(model.layout.names) or (model.scheme == "joint" and density.given)
    if not model.has_marginals and partly:
        raise ValueError(NO_MARGINALS_MESSAGE.format(scheme=model.scheme))
