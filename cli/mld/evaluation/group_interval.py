"""Confidence interval of a number that is computed from rows together, such as an R2."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import stdev

import torch
from jaxtyping import Bool
from scipy.special import stdtrit
from torch import Tensor

MAX_GROUPS = 20
MIN_GROUPS = 3
MIN_ROWS_PER_GROUP = 10
"""In smaller groups an R2 varies far more than its approximation for many rows."""


def group_half_width(
    value_of: Callable[[Bool[Tensor, " row"]], float | None], n: int
) -> float | None:
    """Half the width of a 95 % interval, from the number's spread between groups of rows.

    The n rows are divided into up to 20 groups, every 20th row into the same one, and the values of
    the groups have Student's t interval: that of the number if it is a mean over rows, and nearly
    so if it is a smooth function of means. Costs one more evaluation, and draws nothing.

    Args:
        value_of: the number of some of the n rows, None where it has none.

    Returns:
        None with fewer than 30 rows, or if a group has no value or all have the same one, as with
        no match at all: then the spread is unknown, not 0.
    """
    count = min(MAX_GROUPS, n // MIN_ROWS_PER_GROUP)
    if count < MIN_GROUPS:
        return None
    group_of_row = torch.arange(n) % count
    values = [value_of(group_of_row == group) for group in range(count)]
    present = [value for value in values if value is not None]
    if len(present) < count or len(set(present)) == 1:
        return None
    return float(stdtrit(count - 1, 0.975)) * stdev(present) / math.sqrt(count)
