"""Point estimates from draws of which the best one is known."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mld.data.estimates import best_estimate, medoid
from mld_core import PluginError, Summary

DRAWS = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]])


def modality(summarise: Any) -> Any:
    return SimpleNamespace(kind="any", summarise=summarise)


def test_a_summary_has_its_own_estimate() -> None:
    summary = Summary(torch.tensor([7.0]), {"std": 2.0, "median": -1.0113879442214966})
    estimate = best_estimate(modality(lambda draws: summary), DRAWS, DRAWS, torch.ones(1))
    assert estimate.item.tolist() == [7.0]
    assert estimate.draw is None
    assert estimate.values == {"std": 2.0, "median": -1.011388}


def test_without_a_summary_it_is_the_medoid() -> None:
    estimate = best_estimate(modality(lambda draws: None), DRAWS * 10, DRAWS, torch.ones(1))
    assert estimate.draw == 2
    assert estimate.item.tolist() == [20.0]
    assert not estimate.values


def test_distances_are_in_standard_deviations() -> None:
    latents = torch.tensor([[0.0, 0.0], [3.0, 5.0], [2.0, 10.0]])
    draws = torch.arange(3)[:, None]
    chosen = [
        best_estimate(modality(lambda draws: None), draws, latents, torch.tensor(scale)).draw
        for scale in ([1.0, 1e3], [1e3, 1.0])
    ]
    assert chosen == [2, 1]


def test_of_equal_draws_the_first_is_chosen() -> None:
    assert medoid(torch.ones(4, 2)) == 0
    assert medoid(torch.tensor([[1.0], [0.0]])) == 0


def test_a_plugin_that_fails_is_named() -> None:
    with pytest.raises(PluginError, match="kind 'any': summarise"):
        best_estimate(modality(lambda draws: 1 / 0), DRAWS, DRAWS, torch.ones(1))
