from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mld_table import metrics

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(200, 2))
VALUES = TRUTH + 0.5 * RNG.normal(size=(200, 2))


def measure(name: str, values: np.ndarray, reference: np.ndarray) -> float:
    return getattr(metrics, name)(torch.tensor(values), torch.tensor(reference))


def test_errors_of_pairs():
    error = VALUES - TRUTH
    assert measure("mean_absolute_error", VALUES, TRUTH) == pytest.approx(np.abs(error).mean())
    rmse = measure("root_mean_squared_error", VALUES, TRUTH)
    assert rmse == pytest.approx(np.sqrt((error**2).mean()))
    expected = 1 - (error**2).mean(0) / TRUTH.var(0)
    assert measure("r_squared", VALUES, TRUTH) == pytest.approx(np.mean(expected))


def test_rank_correlation_with_ties():
    values, truth = VALUES.round(), TRUTH.round()
    expected = [stats.spearmanr(values[:, i], truth[:, i]).statistic for i in (0, 1)]
    assert measure("rank_correlation", values, truth) == pytest.approx(np.mean(expected))


def test_constant_columns():
    ones = np.ones((5, 1))
    assert measure("r_squared", ones, ones) == 1
    assert measure("r_squared", ones + 1, ones) == 0
    assert measure("rank_correlation", TRUTH[:5, :1], ones) == 0


def test_wasserstein_distance():
    assert measure("wasserstein_distance", TRUTH + 3, TRUTH[::-1].copy()) == pytest.approx(3)
    expected = [stats.wasserstein_distance(VALUES[:50, i], TRUTH[:, i]) for i in (0, 1)]
    distance = measure("wasserstein_distance", VALUES[:50], TRUTH)
    assert distance == pytest.approx(np.mean(expected), rel=0.1)


def test_classes():
    items, reference = np.array([[0], [1], [1], [2]]), np.array([[0], [1], [2], [1]])
    assert measure("error_rate", items, reference) == 0.5
    assert measure("frequency_distance", items, reference) == 0
    assert measure("frequency_distance", items, np.array([[3]])) == 1
    assert measure("frequency_distance", items, np.array([[0], [1]])) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "name",
    ["mean_absolute_error", "r_squared", "rank_correlation", "wasserstein_distance", "error_rate"],
)
def test_without_rows_or_pairs(name: str):
    with pytest.raises(ValueError, match="no rows"):
        measure(name, TRUTH[:0], TRUTH[:0])
    if name != "wasserstein_distance":
        with pytest.raises(ValueError, match="pairs"):
            measure(name, TRUTH[:2], TRUTH[:3])
