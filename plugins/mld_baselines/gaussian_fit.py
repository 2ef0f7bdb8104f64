"""Mean and covariance of rows with missing values, by expectation maximisation."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_ITERATIONS = 200
TOLERANCE = 1e-5
"""The iteration ends when no mean and no covariance changes by more; variances are about 1."""

MIN_SHRINKAGE = 1e-6
"""Keeps the covariance positive definite where coordinates depend on each other exactly."""

BATCH_ELEMENTS = 2**22
"""Elements of the matrices that are inverted at once."""


def fit_gaussian(
    z: Float[Tensor, "row joint"], present: Bool[Tensor, "row joint"], shrinkage: float | None
) -> tuple[Float[Tensor, " joint"], Float[Tensor, "joint joint"]]:
    """The mean and covariance of the largest likelihood, the latter shrunk towards the identity.

    Of complete rows they are the empirical ones. Values must be missing at random.

    Args:
        z: with variances of about 1.
        shrinkage: share of the identity; by default estimated as in `optimal_shrinkage`.
    """
    patterns, pattern_of_row, counts = present.unique(
        dim=0, return_inverse=True, return_counts=True
    )
    z = z[pattern_of_row.argsort()]
    identity = torch.eye(z.shape[1], dtype=z.dtype)
    mean, covariance = torch.zeros_like(z[0]), identity
    for _ in range(MAX_ITERATIONS):
        completed, residual = _expect(z, patterns, counts, mean, covariance)
        new_mean = completed.mean(0)
        centred = completed - new_mean
        new_covariance = (centred.T @ centred + residual) / len(z)
        share = shrinkage or optimal_shrinkage(new_covariance, len(z))
        new_covariance = (1 - share) * new_covariance + share * identity
        changes = (new_mean - mean).abs().max(), (new_covariance - covariance).abs().max()
        mean, covariance = new_mean, new_covariance
        if max(changes) <= TOLERANCE:
            break
    return mean, covariance


def optimal_shrinkage(covariance: Float[Tensor, "joint joint"], rows: int) -> float:
    """The share of the identity with the least expected square error.

    The oracle approximating shrinkage of Chen, Wiesel, Eldar and Hero (2010), for normal data.
    """
    width = len(covariance)
    square, trace = float(covariance.square().sum()), float(covariance.trace())
    spread = (rows + 1 - 2 / width) * (square - trace**2 / width)
    error = (1 - 2 / width) * square + trace**2
    return 1.0 if spread <= error else max(error / spread, MIN_SHRINKAGE)


def _expect(
    z: Float[Tensor, "row joint"],
    patterns: Bool[Tensor, "pattern joint"],
    counts: Tensor,
    mean: Float[Tensor, " joint"],
    covariance: Float[Tensor, "joint joint"],
) -> tuple[Float[Tensor, "row joint"], Float[Tensor, "joint joint"]]:
    """The rows with the expected values of what is missing, and the sum of its covariances.

    Args:
        z: sorted by pattern.
        patterns: which coordinates are present.
        counts: rows of each pattern.
    """
    completed, residual = [], torch.zeros_like(covariance)
    size = max(1, BATCH_ELEMENTS // covariance.numel())
    rows = iter(z.split(counts.tolist()))
    for seen, count in zip(patterns.to(z).split(size), counts.to(z).split(size), strict=True):
        # The covariance of what is seen with everything; rows that are not seen are zero.
        cross = seen[:, :, None] * covariance
        blocks = cross * seen[:, None, :] + torch.diag_embed(1 - seen)
        weights = torch.cholesky_solve(cross, torch.linalg.cholesky(blocks))
        residual += (count[:, None, None] * (covariance - cross.mT @ weights)).sum(0)
        for mask, matrix in zip(seen, weights, strict=True):
            completed.append(mean + ((next(rows) - mean) * mask) @ matrix)
    return torch.cat(completed), residual
