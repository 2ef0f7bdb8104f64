"""Whether samples copy training data: whether they lie nearer to it than held-out data do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

DISTANCES_AT_ONCE = 2**24
"""Distances between points that are in memory at once."""
NORMAL_95 = 1.96
"""Half the width of a 95 % interval of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class Nearness:
    """How often a sample is nearer to the training data than a held-out point is.

    0.5 if samples are as near as held-out points, 1 if all are nearer. It is the statistic of
    Mann and Whitney over its greatest value, with a standard error for any two distributions
    (DeLong, DeLong and Clarke-Pearson 1988); as a test of copying it is that of Meehan, Chaudhuri
    and Dasgupta (2020).

    Args:
        nearer: share of the pairs of a sample and a held-out point in which the sample is nearer to
            its nearest training point; ties count half.
        standard_error: over samples and held-out points.
        sample_distance, held_out_distance: medians of the distance to the nearest training point.
    """

    nearer: float
    standard_error: float
    sample_distance: float
    held_out_distance: float

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        return NORMAL_95 * self.standard_error


def nearness(
    samples: Float[Tensor, "sample dim"],
    held_out: Float[Tensor, "point dim"],
    training: Float[Tensor, "row dim"],
) -> Nearness:
    """Of samples to training data, by Euclidean distance.

    ValueError for fewer than two samples or held-out points, or without training points.
    """
    if min(len(samples), len(held_out)) < 2 or not len(training):
        raise ValueError(
            f"nearness needs two samples, two held-out points and a training point, not "
            f"{len(samples)}, {len(held_out)} and {len(training)}"
        )
    of_samples, of_held_out = (nearest_distance(x, training) for x in (samples, held_out))
    by_sample = _share_above(of_samples, of_held_out)
    by_point = 1 - _share_above(of_held_out, of_samples)
    variance = by_sample.var() / len(by_sample) + by_point.var() / len(by_point)
    return Nearness(
        nearer=float(by_sample.mean()),
        standard_error=math.sqrt(float(variance)),
        sample_distance=float(of_samples.median()),
        held_out_distance=float(of_held_out.median()),
    )


def nearest_distance(
    points: Float[Tensor, "point dim"], references: Float[Tensor, "reference dim"]
) -> Float[Tensor, " point"]:
    """The Euclidean distance of each point to the nearest reference."""
    parts = points.split(max(1, DISTANCES_AT_ONCE // len(references)))
    return torch.cat([torch.cdist(part, references).amin(1) for part in parts])


def _share_above(
    values: Float[Tensor, " value"], others: Float[Tensor, " other"]
) -> Float[Tensor, " value"]:
    """For each value the share of others that are greater, plus half of those that are equal."""
    ordered = others.sort().values
    first, beyond = (torch.searchsorted(ordered, values, right=side) for side in (False, True))
    return (len(others) - (first + beyond) / 2) / len(others)
