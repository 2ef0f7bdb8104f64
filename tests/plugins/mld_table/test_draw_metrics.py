"""Metrics of draws, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from mld_table import draw_metrics
from mld_table.draw_metrics import crps, interval_coverage, interval_width, log_loss

RNG = np.random.default_rng(0)


def normal_draws(rows: int, draws: int, std: float = 1.0) -> torch.Tensor:
    return torch.tensor(std * RNG.normal(size=(rows, draws, 1)))


@pytest.mark.parametrize("draws", [2, 16])
@pytest.mark.parametrize("y", [0.0, 1.5])
def test_crps_of_a_normal_distribution(draws: int, y: float) -> None:
    # Gneiting and Raftery (2007), equation 5 of section 4.2.
    expected = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / math.sqrt(math.pi)
    rows = 200_000 // draws
    measured = crps(normal_draws(rows, draws), torch.full((rows, 1), y))
    assert measured == pytest.approx(expected, abs=0.02)


def test_crps_of_known_draws() -> None:
    # |draws − 1| is 1, 0, 2 on average 1; pairs differ by 1, 3, 2, on average 2.
    draws = torch.tensor([[[0.0], [3.0], [1.0]]])
    assert crps(draws, torch.tensor([[1.0]])) == pytest.approx(0.0)
    assert crps(draws, torch.tensor([[4.0]])) == pytest.approx(8 / 3 - 1)
    assert math.isnan(crps(draws[:, :1], torch.tensor([[1.0]])))


def test_crps_of_several_coordinates_is_their_mean() -> None:
    draws, truth = torch.randn(5, 4, 3), torch.randn(5, 3)
    each = [crps(draws[:, :, i : i + 1], truth[:, i : i + 1]) for i in range(3)]
    assert crps(draws, truth) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("draws", [9, 19])
def test_interval_holds_four_of_five_truths_of_the_same_distribution(draws: int) -> None:
    coverage = interval_coverage(normal_draws(20_000, draws), normal_draws(20_000, 1)[:, 0])
    assert coverage == pytest.approx(0.8, abs=0.01)


def test_interval_that_is_too_narrow_holds_fewer() -> None:
    draws, truth = normal_draws(20_000, 99, 0.5), normal_draws(20_000, 1)[:, 0]
    assert interval_coverage(draws, truth) == pytest.approx(
        2 * norm.cdf(0.5 * norm.ppf(0.9)) - 1, abs=0.02
    )
    assert interval_width(draws, truth) == pytest.approx(norm.ppf(0.9), rel=0.03)


def test_few_draws_have_no_interval() -> None:
    draws, truth = normal_draws(5, 8), torch.zeros(5, 1)
    assert math.isnan(interval_coverage(draws, truth))
    assert math.isnan(interval_width(draws, truth))


def test_log_loss_of_known_frequencies() -> None:
    draws = torch.tensor([[[0], [0], [1]], [[2], [2], [2]]])
    loss = log_loss(draws, torch.tensor([[0], [1]]), num_classes=4)
    assert loss == pytest.approx(-(math.log(2.25 / 4) + math.log(0.25 / 4)) / 2)


def test_log_loss_of_one_class_is_zero() -> None:
    assert log_loss(torch.zeros(2, 16, 1, dtype=torch.int64), torch.zeros(2, 1).long(), 1) == 0


@pytest.mark.parametrize("name", ["crps", "interval_coverage", "interval_width"])
def test_without_rows_or_truths(name: str) -> None:
    measure = getattr(draw_metrics, name)
    with pytest.raises(ValueError, match="no rows"):
        measure(torch.zeros(0, 16, 1), torch.zeros(0, 1))
    with pytest.raises(ValueError, match="2 rows, and 3 truths"):
        measure(torch.zeros(2, 16, 1), torch.zeros(3, 1))
