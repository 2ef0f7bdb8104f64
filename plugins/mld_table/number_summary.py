"""What several draws of a number say about it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mld_core import Summary

INTERVAL = (0.1, 0.9)
"""Levels of the ends of the interval that a summary tells."""
MIN_DRAWS = 9
"""Fewer draws have no interval of 80 %: it would reach beyond the smallest and largest of them."""


def summarise_numbers(draws: Float[Tensor, "draw size"]) -> Summary:
    """The median of each number, with figures about it.

    These are `median`, `mean`, `std`, and, from nine draws on, `p10` and `p90`, the ends of an
    interval that holds a further draw with probability 0.8. With several numbers in a cell each
    name has the number's place added, from 1, as in `median_2`.
    """
    values = draws.double().cpu().numpy()
    figures = {"median": np.median(values, axis=0), "mean": values.mean(axis=0)}
    if len(values) > 1:
        figures["std"] = values.std(axis=0, ddof=1)
    if len(values) >= MIN_DRAWS:
        figures["p10"], figures["p90"] = prediction_interval(values, INTERVAL)
    size = values.shape[1]
    named = {
        name if size == 1 else f"{name}_{place}": float(figure[place - 1])
        for name, figure in figures.items()
        for place in range(1, size + 1)
    }
    best = draws.new_tensor(figures["median"])
    return Summary(best, named)


def prediction_interval(
    draws: Float[np.ndarray, "draw ..."], levels: tuple[float, float]
) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """Quantiles of the first axis between which a further draw lies with the levels' probability.

    Of n draws, the k-th smallest has the level k / (n + 1) (Weibull), which holds for draws from
    any continuous distribution.
    """
    low, high = np.quantile(draws, levels, axis=0, method="weibull")
    return low, high
