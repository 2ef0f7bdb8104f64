"""Metrics of the distribution of several draws of each row, against the row's truth.

Draws of numbers are in their own units. A metric of several coordinates is the mean over them.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from mld_core import Metric
from mld_table.number_summary import INTERVAL, MIN_DRAWS, prediction_interval

NumberDraws = Float[Tensor, "row draw coordinate"]
Numbers = Float[Tensor, "row coordinate"]
ClassDraws = Int64[Tensor, "row draw 1"]
Classes = Int64[Tensor, "row 1"]

NOMINAL_COVERAGE = 0.8
"""Probability that a truth lies in the interval, if the draws are from its distribution."""


def number_draw_metrics(unit: str) -> dict[str, Metric]:
    """Metrics of draws of numbers of a unit."""
    return {
        "crps": Metric(crps, "draws", "lower", best=0.0, unit=unit),
        "coverage_80": Metric(
            interval_coverage, "draws", "nearer", best=NOMINAL_COVERAGE, bounds=(0.0, 1.0)
        ),
        "width_80": Metric(
            interval_width, "draws", "lower", best=0.0, unit=unit, bounds=(0.0, None)
        ),
    }


def class_draw_metrics(num_classes: int) -> dict[str, Metric]:
    """Metrics of draws of one of so many classes."""
    measure = partial(log_loss, num_classes=num_classes)
    return {"log_loss": Metric(measure, "draws", "lower", unit="nats", bounds=(0.0, None))}


def crps(items: NumberDraws, reference: Numbers) -> float:
    """Mean continuous ranked probability score (Gneiting and Raftery 2007).

    E|X − y| − E|X − X'| / 2, where X and X' are draws and y is the truth: the absolute error of
    draws, less half of what they differ. Estimated without bias from n draws, of which X and X' are
    two different ones ("fair", Ferro 2014), so that it does not fall with their number. NaN with
    one draw.
    """
    draws, truth = _check(items, reference)
    n = draws.shape[1]
    if n < 2:
        return math.nan
    error = np.abs(draws - truth[:, None]).mean(1)
    # Of sorted draws, the sum of |x_i − x_j| over all pairs i < j is that of (2 i − n + 1) x_i.
    weights = 2 * np.arange(n) - n + 1
    difference = np.einsum("d,rdc->rc", weights, np.sort(draws, 1)) / (n * (n - 1))
    return float((error - difference).mean())


def interval_coverage(items: NumberDraws, reference: Numbers) -> float:
    """Proportion of the truths that lie in the 80 % interval of their draws.

    NaN with fewer than nine draws, which have no such interval.
    """
    draws, truth = _check(items, reference)
    if draws.shape[1] < MIN_DRAWS:
        return math.nan
    low, high = _interval(draws)
    return float(((low <= truth) & (truth <= high)).mean())


def interval_width(items: NumberDraws, reference: Numbers) -> float:
    """Mean width of the 80 % interval of the draws; NaN with fewer than nine."""
    draws, _ = _check(items, reference)
    if draws.shape[1] < MIN_DRAWS:
        return math.nan
    low, high = _interval(draws)
    return float((high - low).mean())


def log_loss(items: ClassDraws, reference: Classes, num_classes: int) -> float:
    """Mean −log of the true class's probability, in nats.

    The probability of a class is its frequency among the draws, to which one more draw is added
    that is spread evenly over all classes: (count + 1 / classes) / (draws + 1). So the loss is
    finite where no draw is right.
    """
    draws, truth = _check(items, reference)
    counts = (draws == truth[:, None]).sum(1)
    probability = (counts + 1 / num_classes) / (draws.shape[1] + 1)
    return float(-np.log(probability).mean())


def _interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return prediction_interval(draws.swapaxes(0, 1), INTERVAL)


def _check(items: Tensor, reference: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Draws and truths in double precision. ValueError if there are none, or not of each row."""
    if not len(items) or not len(reference):
        raise ValueError("there are no rows to measure")
    if len(items) != len(reference):
        raise ValueError(f"there are draws of {len(items)} rows, and {len(reference)} truths")
    return items.double().cpu().numpy(), reference.double().cpu().numpy()
