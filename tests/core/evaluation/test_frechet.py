from __future__ import annotations

import pytest
import torch

from mld_core.evaluation.frechet import frechet_distance


def cloud(mean: torch.Tensor, covariance: torch.Tensor, n: int = 200) -> torch.Tensor:
    """Points with exactly this mean and covariance."""
    x = torch.randn(n, len(mean), dtype=torch.float64)
    x = x - x.mean(0)
    whitened = torch.linalg.solve_triangular(
        torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False
    )
    return mean + whitened.T @ torch.linalg.cholesky(covariance).T


def test_commuting_covariances_match_the_closed_form() -> None:
    a = cloud(torch.tensor([0.0, 1.0]).double(), torch.diag(torch.tensor([4.0, 9.0]).double()))
    b = cloud(torch.tensor([3.0, 1.0]).double(), torch.diag(torch.tensor([1.0, 16.0]).double()))
    assert frechet_distance(a, b) == pytest.approx(9 + (2 - 1) ** 2 + (3 - 4) ** 2, rel=1e-9)


def test_general_covariances_match_the_matrix_square_root() -> None:
    roots = torch.randn(2, 4, 4, dtype=torch.float64)
    a_cov, b_cov = roots @ roots.mT + 0.1 * torch.eye(4)
    mean = torch.zeros(4).double()
    values = torch.linalg.eigvals(a_cov @ b_cov).real  # of a product of two: real and positive
    expected = (a_cov.trace() + b_cov.trace() - 2 * values.sqrt().sum()).item()
    assert frechet_distance(cloud(mean, a_cov), cloud(mean, b_cov)) == pytest.approx(expected)


def test_distance_to_itself_is_zero_if_singular() -> None:
    x = torch.randn(20, 3)
    flat = torch.cat([x, x], dim=1)  # rank 3 in 6 dimensions
    assert frechet_distance(flat, flat.flip(0)) == pytest.approx(0, abs=1e-6)


def test_single_feature_and_symmetry() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(30, 1, generator=generator)
    b = torch.randn(40, 1, generator=generator) + 2
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) > 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [(torch.zeros(1, 2), "at least two"), (torch.full((3, 2), torch.nan), "finite")],
)
def test_invalid_features_are_rejected(bad: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(torch.randn(5, 2), bad)
