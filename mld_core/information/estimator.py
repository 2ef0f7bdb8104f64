"""Estimation of information measures, in nats, from a trained network.

A measure is a weighted sum of −log densities. Each of these is an integral of denoising errors over
the log-SNR λ, for standardised x in D dimensions:

    −log p(x|y) = ½|x|² + (D/2) log 2π + ½ ∫ E[|ε − e(x_λ|y)|² − |ε − σ x_λ|²] dλ

(pointwise I-MMSE: Kong, Brekelmans and Ver Steeg 2023). σ x_λ is the prediction for a standard
normal x, whose density is known; subtracting its error removes most of the variance that ε brings.
In a difference of densities it cancels, and differences of errors remain (MINDE: Franzese, Bounoua
and Michiardi 2024). The squared difference of two predictions has the same mean over rows of the
data, but the network's own errors always increase it, and it ranks single rows in reverse.

λ takes the midpoints of equal strata between pure noise and T_MIN. Each ε is used with both signs,
and all densities share the same ε.

A network trained on few rows is overconfident at low noise, which biases the information in an
observed modality downwards, even below zero. Predictions can therefore be recalibrated on held-out
rows: at each level e becomes σx + c (e − σx) + d (e(i) − σx), where e(i) is the modality's
marginal, and c and d are fitted by least squares. For an exact score c = 1 and d = 0.

The network's own error raises every entropy, and biases a measure by the difference of what it
adds to the entropies of the sum. Intervals include its sign, the disagreement of several sums of
entropies that are the same quantity. What recalibration has changed is told beside them: where that
is much, the value rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from mld_core.diffusion.latent_layout import JointLatent
from mld_core.diffusion.multi_time import multi_time_vector
from mld_core.diffusion.role_schemes import NO_MARGINALS_MESSAGE
from mld_core.diffusion.roles import Role, roles_for
from mld_core.diffusion.sampling import ScoreModel
from mld_core.diffusion.schedule import T_MIN
from mld_core.information.measures import Density, Measure, weighted_sum

NODES = 128
"""Default number of noise levels of an integral, a power of two."""

ROWS_PER_CALL = 16384
"""Approximate number of rows in one call of the network."""

CALIBRATION_ROWS = 128
"""Most held-out rows that recalibrate one noise level; drawn anew for each level."""

EPS = 1e-12
"""Smallest variance that an estimate is weighted by."""

NORMAL_95 = 1.96
"""Half the width of a 95 % interval of a normal distribution, in standard deviations."""

RIDGE = 4.0
"""Strength of the ridge penalty that draws c and d to 1 and 0: a prior standard deviation of ½."""


@dataclass(frozen=True)
class Estimate:
    """A mean over rows.

    Args:
        value: in nats.
        standard_error: over rows; it includes the noise of the integral, but not the network's
            bias.
        network_error: scale of the network's bias: the root mean square difference between two
            measures of the quantity. (Not the deviation from their mean, since measures that share
            a density share its error.)
        recalibration: what recalibration has added to the value.
        convergence: (number of noise levels, value, standard error) for ever finer integrals.
    """

    value: float
    standard_error: float
    network_error: float
    recalibration: float
    convergence: tuple[tuple[int, float, float], ...]

    @property
    def half_width(self) -> float:
        """Of the 95 % interval around the value, which includes both errors."""
        return NORMAL_95 * math.hypot(self.standard_error, self.network_error)


@dataclass(frozen=True)
class Surprisal:
    """−log p of rows under some densities of standardised latents, by noise level.

    Args:
        base: −log p under a standard normal distribution, by density.
        errors: |ε − e|² − |ε − σ x|² at each noise level, by density.
        recalibration: what recalibration has added to the mean of −log p, by density.
        span: length of the integrated range of λ.
    """

    base: Mapping[Density, Float[Tensor, " row"]]
    errors: Mapping[Density, Float[Tensor, "node row"]]
    recalibration: Mapping[Density, float]
    span: float

    def rows(self, measure: Measure) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        """The measure of each row, and its standard error.

        The error is that of the noise, estimated from the deviation of each level's integrand from
        the line between its neighbours (Gasser, Sroka and Jennen-Steinmetz 1986).
        """
        levels = self._integrand(measure)
        nodes = len(levels)
        curvature = levels[:-2] - 2 * levels[1:-1] + levels[2:]
        variance = curvature.square().mean(0) / 6 / nodes
        return self._base(measure) + levels.mean(0), variance.sqrt()

    def estimate(self, *measures: Measure, checks: Sequence[Measure] = ()) -> Estimate:
        """The mean of a measure over rows. ValueError for fewer than two rows.

        Several measures of one quantity are averaged, each weighted by the inverse of its variance
        over rows, since poor predictions also have a greater variance. `checks` are further
        measures of it, which count in the network's error alone.
        """
        variances = [float(self.rows(measure)[0].var(correction=0)) for measure in measures]
        weights = [1 / max(variance, EPS) for variance in variances]
        shares = [weight / sum(weights) for weight in weights]
        measure = weighted_sum(*zip(shares, measures, strict=True))
        levels, base = self._integrand(measure), self._base(measure)
        if len(base) < 2:
            raise ValueError(f"a standard error over rows needs two rows, not {len(base)}")
        convergence = []
        for stride in (2**k for k in range(len(levels).bit_length() - 4, -1, -1)):
            coarse = levels[stride // 2 :: stride]
            rows = base + coarse.mean(0)
            error = float(rows.std()) / math.sqrt(len(rows))
            convergence.append((len(coarse), float(rows.mean()), error))
        value, standard_error = convergence[-1][1:]
        forms = [float(self.rows(form)[0].mean()) for form in (*measures, *checks)]
        pairs = [(one - other) ** 2 for one, other in combinations(forms, 2)]
        disagreement = math.sqrt(sum(pairs) / max(len(pairs), 1))
        change = sum(weight * self.recalibration[density] for density, weight in measure.items())
        return Estimate(value, standard_error, disagreement, change, tuple(convergence))

    def _base(self, measure: Measure) -> Float[Tensor, " row"]:
        terms = [weight * self.base[density] for density, weight in measure.items()]
        return torch.stack(terms).sum(0)

    def _integrand(self, measure: Measure) -> Float[Tensor, "node row"]:
        """The integrand at each level, scaled so that its mean is the integral."""
        terms = [weight * self.errors[density] for density, weight in measure.items()]
        return self.span / 2 * torch.stack(terms).sum(0)


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
    """−log p of rows under all densities of `measures`, integrated over `nodes` noise levels.

    Computed in the precision of the latents; float32 is enough for a network. ValueError if the
    model was not trained for a density, or a modality has no latents.

    Args:
        latents: raw, by modality; modalities that no measure uses are ignored.
        measures: weighted sums of −log densities.
        seed: of the noise.
        shared: True: all rows have the same noise, so that a row's result does not depend on its
            batch, and rows can be compared. False: each row has its own noise, which reduces the
            error of a mean over rows.
        held_out: raw latents of all modalities, of rows that the network was not trained on, to
            recalibrate its predictions; only for a model with marginals.
        nodes: a power of two, at least 16.
        on_progress: called with the number of completed noise levels.
    """
    densities = list(dict.fromkeys(density for measure in measures for density in measure))
    for density in densities:
        check_density(model, density, latents)
    if held_out is not None:
        for name in model.layout.names:
            check_density(model, Density((name,)), held_out)
    if nodes < 16 or nodes & (nodes - 1):
        raise ValueError(f"nodes must be a power of two and at least 16, not {nodes}")
    z = joint_latent(model, latents)
    z_held_out = None if held_out is None else joint_latent(model, held_out).to(z)
    roles = torch.stack([roles_for_density(model, density) for density in densities])
    ends = model.schedule.log_snr(torch.tensor([1.0, T_MIN], dtype=torch.float64))
    low, high = ends.tolist()
    levels = low + (high - low) * (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
    predictions = _Predictions(model, roles, marginals=z_held_out is not None)
    errors = torch.empty(nodes, len(densities), len(z), dtype=z.dtype)
    recalibration = torch.zeros(len(densities), dtype=z.dtype)
    generator = Generator().manual_seed(seed)
    calibration_generator = Generator().manual_seed(seed + 1)
    for node, level in enumerate(model.schedule.time_at_log_snr(levels)):
        t, uncalibrated = level.to(z), torch.eye(1, 2).to(z)
        weights = uncalibrated
        if z_held_out is not None:
            weights = _calibrate(predictions, z_held_out, t, calibration_generator)
        shape = (1 if shared else len(z), 2, z.shape[1])
        noise = torch.randn(shape, generator=generator).to(z).expand(len(z), -1, -1)
        chunks = list(predictions.products(z, noise, t))
        errors[node] = torch.cat([_errors(chunk, weights) for chunk in chunks], dim=1).cpu()
        before = torch.cat([_errors(chunk, uncalibrated) for chunk in chunks], dim=1).cpu()
        recalibration += (errors[node] - before).mean(1) * (high - low) / (2 * nodes)
        on_progress(node + 1)
    generated = model.layout.expand(roles == Role.GENERATED).to(z)
    base = generated @ (z.square() + math.log(2 * math.pi)).T / 2
    return Surprisal(
        dict(zip(densities, base.cpu(), strict=True)),
        dict(zip(densities, errors.unbind(1), strict=True)),
        dict(zip(densities, recalibration.tolist(), strict=True)),
        high - low,
    )


@dataclass(frozen=True)
class _Predictions:
    """A network's predictions for some densities and, with `marginals`, of each modality alone."""

    model: ScoreModel
    roles: Int64[Tensor, "density modality"]
    marginals: bool

    def products(
        self, z: JointLatent, noise: Float[Tensor, "batch 2 joint"], t: Float[Tensor, ""]
    ) -> Iterator[Float[Tensor, "5 density row modality"]]:
        """u·p, u·q, p·p, p·q and q·q at one noise level, averaged over ε and −ε, by chunk of rows.

        u = ε − σx, p = e − σx and q = e(i) − σx; q is 0 without `marginals`. Products are 0 where
        nothing is generated. `noise` holds ε, and the content of absent latents (independent
        scheme).
        """
        chunk = max(1, ROWS_PER_CALL // (2 * sum(self.roles.shape)))
        for z_chunk, noise_chunk in zip(z.split(chunk), noise.split(chunk), strict=True):
            yield self._products(z_chunk, noise_chunk, t)

    def _products(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        layout, schedule = self.model.layout, self.model.schedule
        num_densities, num_modalities = self.roles.shape
        patterns = self.roles
        if self.marginals:
            single = torch.full((num_modalities, num_modalities), int(Role.ABSENT)).to(patterns)
            patterns = torch.cat([patterns, single.fill_diagonal_(int(Role.GENERATED))])
        eps, absent_noise = noise.unbind(1)
        eps = torch.cat([eps, -eps])
        noisy = schedule.alpha(t) * z.repeat(2, 1) + schedule.sigma(t) * eps
        roles = patterns[:, None]
        times = multi_time_vector(t.expand(len(patterns), 1, 1), roles)
        role = layout.expand(roles)
        absent_fill = absent_noise if self.model.scheme == "independent" else torch.zeros_like(z)
        x = torch.where(role == Role.ABSENT, absent_fill.repeat(2, 1), noisy)
        x = torch.where(role == Role.OBSERVED, z.repeat(2, 1), x)
        normal = schedule.sigma(t) * noisy
        p = self.model.predict_noise(x, times, roles) - normal
        p = torch.where(role == Role.GENERATED, p, 0.0)
        q = p[num_densities:].sum(0)
        p, u = p[:num_densities], eps - normal
        generated = layout.expand(self.roles == Role.GENERATED)[:, None]
        coordinates_to_modalities = one_hot(layout.modality_index, num_modalities).to(z)
        products = (u * p, u * q * generated, p * p, p * q, q * q * generated)
        sums = torch.stack([product @ coordinates_to_modalities for product in products])
        return (sums[:, :, : len(z)] + sums[:, :, len(z) :]) / 2


def _calibrate(
    predictions: _Predictions, z: JointLatent, t: Float[Tensor, ""], generator: Generator
) -> Float[Tensor, "density 1 modality 2"]:
    """c and d at one noise level, from at most CALIBRATION_ROWS of the held-out rows z.

    By least squares with a ridge penalty towards (1, 0).
    """
    z = z[torch.randperm(len(z), generator=generator)[:CALIBRATION_ROWS].to(z.device)]
    noise = torch.randn((len(z), 2, z.shape[1]), generator=generator).to(z)
    sums = [products.sum(2) for products in predictions.products(z, noise, t)]
    up, uq, pp, pq, qq = torch.stack(sums).sum(0)
    left = torch.stack([torch.stack([pp, pq], -1), torch.stack([pq, qq], -1)], -2)
    ridge = RIDGE * torch.eye(2).to(left)
    right = torch.stack([up, uq], -1) + ridge[0]
    weights: Tensor = torch.linalg.solve(left + ridge, right)
    return weights[:, None]


def _errors(
    products: Float[Tensor, "5 density row modality"], weights: Float[Tensor, "*#many 2"]
) -> Float[Tensor, "density row"]:
    """|u − c p − d q|² − |u|², summed over the generated modalities."""
    c, d = weights.unbind(-1)
    up, uq, pp, pq, qq = products
    by_modality = c * (c * pp - 2 * up) + d * (d * qq - 2 * uq) + 2 * c * d * pq
    return torch.sum(by_modality, -1)


def joint_latent(model: ScoreModel, latents: Mapping[str, Float[Tensor, "row _"]]) -> JointLatent:
    """The standardised joint latent on the model's device; arbitrary where latents are missing."""
    first = next(iter(latents.values()))
    z = model.layout.concatenate(
        {
            name: latents.get(name, torch.zeros(len(first), width, dtype=first.dtype))
            for name, width in model.layout.dims.items()
        }
    )
    return model.standardiser.standardise(z.to(model.device))


def roles_for_density(model: ScoreModel, density: Density) -> Int64[Tensor, " modality"]:
    """The roles with which the network predicts the noise of a density."""
    return roles_for(model.layout.names, density.given, density.of, model.scheme).to(model.device)


def check_density(model: ScoreModel, density: Density, latents: Mapping[str, Tensor]) -> None:
    """ValueError if a density has no latents, or the model was not trained for it."""
    names = [*density.of, *density.given]
    missing = [name for name in names if name not in model.layout.names or name not in latents]
    if missing:
        raise ValueError(f"no latents of {', '.join(missing)}")
    partial = len(names) < len(model.layout.names) or (model.scheme == "joint" and density.given)
    if partial and not model.has_marginals:
        raise ValueError(NO_MARGINALS_MESSAGE.format(scheme=model.scheme))
