"""The Frechet distance between two clouds of features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(a: Float[Tensor, "m feature"], b: Float[Tensor, "n feature"]) -> float:
    """|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), in float64 (Dowson and Landau 1982).

    tr (Σ_a Σ_b)^½ is the sum of the singular values of Σ_a^½ Σ_b^½, so nothing turns complex and
    singular covariances are welcome; these come of fewer rows than features, and bias the distance
    upwards: quote it with n. FID and FAD are this distance on particular features. ValueError
    with fewer than two rows, or if a value is not finite.
    """
    for cloud in (a, b):
        if len(cloud) < 2:
            raise ValueError(f"a Frechet distance needs at least two rows, got {len(cloud)}")
        if not bool(cloud.isfinite().all()):
            raise ValueError("a Frechet distance needs finite features")
    a, b = a.double(), b.double()
    cov_a, cov_b = (torch.cov(cloud.T).reshape(cloud.shape[1], -1) for cloud in (a, b))
    overlap = torch.linalg.svdvals(_square_root(cov_a) @ _square_root(cov_b)).sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    distance = shift + cov_a.trace() + cov_b.trace() - 2 * overlap
    return max(float(distance), 0.0)


def _square_root(
    covariance: Float[Tensor, "feature feature"],
) -> Float[Tensor, "feature feature"]:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root
