from __future__ import annotations

import numpy as np
import pytest
import torch

from mld_table.category import Category, CategoryConfig
from mld_table.number import Number, NumberConfig
from mld_table.number_summary import INTERVAL, prediction_interval
from mld_table.vector import Vector, VectorConfig


def number(**config: object) -> Number:
    return Number(NumberConfig.model_validate(config), {"mean": [0.0], "std": [1.0]})


def test_number_is_summarised_by_its_quantiles():
    summary = number().summarise(torch.tensor([[1.0], [2.0], [6.0]]))
    assert summary.best.tolist() == [2.0]
    assert dict(summary.values) == {"median": 2, "mean": 3, "std": pytest.approx(7**0.5)}
    summary = number().summarise(torch.arange(9.0, 0.0, -1.0)[:, None])
    assert (summary.values["p10"], summary.values["p90"]) == (1, 9)


def test_one_draw_has_no_spread():
    summary = number().summarise(torch.tensor([[1.5]]))
    assert dict(summary.values) == {"median": 1.5, "mean": 1.5}


def test_figures_of_several_numbers_name_their_place():
    summary = number(size=2).summarise(torch.tensor([[1.0, 10.0], [3.0, 30.0]]))
    assert summary.best.tolist() == [2, 20]
    assert {"median_1", "median_2", "std_1", "std_2"} <= set(summary.values)


@pytest.mark.parametrize("draws", [9, 15, 64])
def test_interval_holds_a_further_draw_as_often_as_it_says(draws: int):
    # The k-th smallest of n uniform draws has the mean k / (n + 1) (a beta distribution).
    values = np.random.default_rng(0).uniform(size=(draws, 200_000))
    low, high = prediction_interval(values, INTERVAL)
    assert float((high - low).mean()) == pytest.approx(0.8, abs=2e-3)


def test_category_is_summarised_by_its_frequencies():
    modality = Category(CategoryConfig(), {"values": ["a", "b", "c"]})
    summary = modality.summarise(torch.tensor([[2], [1], [2], [0]]))
    assert modality.cell(summary.best) == "c"
    assert dict(summary.values) == {"probability": 0.5, "p(a)": 0.25, "p(b)": 0.25, "p(c)": 0.5}


def test_vector_is_summarised_by_medians():
    modality = Vector(VectorConfig(), {"mean": [0.0, 0.0], "std": [1.0, 1.0]})
    summary = modality.summarise(torch.tensor([[0.0, 1.0], [1.0, 5.0], [2.0, 9.0]]))
    assert summary.best.tolist() == [1, 5]
    assert dict(summary.values) == {"std": pytest.approx(2.5)}
