"""Metrics of numbers and categories: errors of pairs, and distances of distributions.

Rows of numbers are in their own units. A metric of several coordinates is the mean over them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mld_core import Metric

Numbers = Float[Tensor, "_ coordinate"]
Classes = Int64[Tensor, "_ 1"]

QUANTILE_LEVELS = (np.arange(1000) + 0.5) / 1000
"""Levels at which two distributions are compared."""


def error_metrics(unit: str) -> dict[str, Metric]:
    """Errors of numbers of a unit, beside the numbers of their rows."""
    return {
        "mae": Metric(mean_absolute_error, "truth", "lower", best=0.0, unit=unit),
        "rmse": Metric(root_mean_squared_error, "truth", "lower", best=0.0, unit=unit),
        "r2": Metric(r_squared, "truth", "higher", best=1.0),
    }


def distribution_metrics(unit: str) -> dict[str, Metric]:
    """Distances of the distribution of numbers of a unit from that of the test split."""
    return {"wasserstein": Metric(wasserstein_distance, "test", "lower", best=0.0, unit=unit)}


def mean_absolute_error(items: Numbers, reference: Numbers) -> float:
    """Mean absolute difference of paired rows."""
    values, truth = _pairs(items, reference)
    return float(np.abs(values - truth).mean())


def root_mean_squared_error(items: Numbers, reference: Numbers) -> float:
    """Root mean squared difference of paired rows."""
    values, truth = _pairs(items, reference)
    return float(np.sqrt(((values - truth) ** 2).mean()))


def r_squared(items: Numbers, reference: Numbers) -> float:
    """Coefficient of determination of paired rows: 1 − squared errors over the truth's variance.

    Where all truths are equal, 1 if every row is right and otherwise 0.
    """
    values, truth = _pairs(items, reference)
    errors, variance = ((values - truth) ** 2).mean(0), truth.var(0)
    ratio = np.divide(errors, variance, out=(errors > 0).astype(float), where=variance > 0)
    return float(1 - ratio.mean())


def rank_correlation(items: Numbers, reference: Numbers) -> float:
    """Spearman's correlation of paired rows; 0 where either side is constant."""
    from scipy.stats import rankdata

    values, truth = (rankdata(side, axis=0) for side in _pairs(items, reference))
    values, truth = values - values.mean(0), truth - truth.mean(0)
    norms = np.sqrt((values**2).sum(0) * (truth**2).sum(0))
    return float(((values * truth).sum(0) / np.where(norms > 0, norms, 1.0)).mean())


def wasserstein_distance(items: Numbers, reference: Numbers) -> float:
    """Distance of the two distributions, unpaired: the mean difference of their quantiles."""
    a, b = (np.quantile(_array(rows), QUANTILE_LEVELS, axis=0) for rows in (items, reference))
    return float(np.abs(a - b).mean())


def error_rate(items: Classes, reference: Classes) -> float:
    """Proportion of paired rows of another class."""
    values, truth = _pairs(items, reference)
    return float((values != truth).mean())


def frequency_distance(items: Classes, reference: Classes) -> float:
    """Total variation distance of the frequencies of the classes, from 0 to 1, unpaired."""
    values, truth = (_array(rows).ravel() for rows in (items, reference))
    classes = np.union1d(values, truth)
    a, b = ((side[:, None] == classes).mean(0) for side in (values, truth))
    return float(np.abs(a - b).sum() / 2)


def _array(rows: Tensor) -> Float64[np.ndarray, "_ coordinate"]:
    if not len(rows):
        raise ValueError("there are no rows to measure")
    return rows.double().cpu().numpy()


def _pairs(items: Tensor, reference: Tensor) -> tuple[np.ndarray, np.ndarray]:
    if len(items) != len(reference):
        raise ValueError(
            f"rows are compared in pairs, but there are {len(items)} and {len(reference)}"
        )
    return _array(items), _array(reference)
