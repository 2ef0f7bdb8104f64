"""The Frechet distance between two sets of features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(a: Float[Tensor, "m feature"], b: Float[Tensor, "n feature"]) -> float:
    """|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), in float64 (Dowson and Landau 1982).

    tr (Σ_a Σ_b)^½ is the sum of the singular values of Σ_a^½ Σ_b^½, which is real also for singular
    covariances, as from fewer rows than features. The distance of finite samples is biased upwards:
    quote it with their number. FID and FAD are this distance on particular features. ValueError
    for fewer than two rows or values that are not finite.
    """
    for features in (a, b):
        if len(features) < 2:
            raise ValueError(f"a Frechet distance needs at least two rows, got {len(features)}")
        if not bool(features.isfinite().all()):
            raise ValueError("a Frechet distance needs finite features")
    a, b = a.double(), b.double()
    cov_a, cov_b = (torch.cov(x.T).reshape(x.shape[1], -1) for x in (a, b))
    trace_root = torch.linalg.svdvals(_square_root(cov_a) @ _square_root(cov_b)).sum()
    mean_distance = (a.mean(0) - b.mean(0)).square().sum()
    distance = mean_distance + cov_a.trace() + cov_b.trace() - 2 * trace_root
    return max(float(distance), 0.0)


def _square_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return torch.matmul(vectors * values.clamp(min=0).sqrt(), vectors.T)
