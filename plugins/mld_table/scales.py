"""Invertible maps between numbers and coordinates of about a standard normal distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import JsonValue
from torch import Tensor, nn

MAX_MAGNITUDE = 1e37
"""Largest magnitude of a number: far enough from the end of float32's range to scale it."""
MAX_QUANTILES = 256
"""Quantiles that are kept of a coordinate."""
TAIL = 1.0
"""Width of the outermost segments of the map of quantiles, in coordinates."""

Numbers = Float[Tensor, "batch coordinate"]
Column = Float64[np.ndarray, "row coordinate"]


def moments(values: Column) -> dict[str, JsonValue]:
    """Mean and standard deviation of each coordinate; 1 in place of a deviation of 0."""
    std = values.std(0)
    return {"mean": values.mean(0).tolist(), "std": np.where(std > 0, std, 1.0).tolist()}


def quantiles(values: Column) -> dict[str, JsonValue]:
    """The moments, the number of rows, and equally spaced quantiles from the least value on."""
    levels = np.linspace(0, 1, min(len(values), MAX_QUANTILES))
    quantiles = np.quantile(values, levels, axis=0).T.tolist()
    return {**moments(values), "rows": len(values), "quantiles": quantiles}


class StandardScale(nn.Module):
    """Subtracts the mean and divides by the standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(facts["mean"]))
        self.register_buffer("std", torch.tensor(facts["std"]))

    def to_coordinates(self, values: Numbers) -> Numbers:
        """The coordinates of numbers."""
        return (values - self.mean) / self.std

    def to_numbers(self, z: Numbers) -> Numbers:
        """The numbers of coordinates."""
        return self.mean + self.std * z


class QuantileScale(nn.Module):
    """Maps quantiles to those of the standard normal distribution, and linearly between them.

    Beyond the outermost ones, a standard deviation of the values is a coordinate's unit. A number
    that many rows share has a range of coordinates, of which it is given the middle.
    """

    values: Tensor
    coordinates: Tensor

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__()
        inner = torch.tensor(facts["quantiles"])
        margin = 0.5 / float(facts["rows"])
        z = torch.special.ndtri(torch.linspace(margin, 1 - margin, inner.shape[1]))
        tail = TAIL * torch.tensor(facts["std"])[:, None]
        values = torch.cat([inner[:, :1] - tail, inner, inner[:, -1:] + tail], 1)
        self.register_buffer("values", values)
        self.register_buffer("coordinates", torch.cat([z[:1] - TAIL, z, z[-1:] + TAIL]))

    def to_coordinates(self, values: Numbers) -> Numbers:
        """The coordinates of numbers."""
        x = values.mT.contiguous()
        coordinates = self.coordinates.expand(len(x), -1)
        below, above = (
            _interpolate(x, self.values, coordinates, right=right) for right in (False, True)
        )
        return ((below + above) / 2).mT

    def to_numbers(self, z: Numbers) -> Numbers:
        """The numbers of coordinates."""
        x = z.mT.contiguous()
        coordinates = self.coordinates.expand(len(x), -1).contiguous()
        return _interpolate(x, coordinates, self.values, right=False).mT


def _interpolate(
    x: Float[Tensor, "coordinate batch"],
    knots: Float[Tensor, "coordinate knot"],
    values: Float[Tensor, "coordinate knot"],
    right: bool,
) -> Float[Tensor, "coordinate batch"]:
    """Piecewise linear interpolation, extended beyond the outermost knots.

    Where knots are equal, of all values the first, or with `right` the last.
    """
    index = torch.searchsorted(knots, x, right=right).clamp(1, knots.shape[1] - 1)
    left_knot, right_knot = knots.gather(1, index - 1), knots.gather(1, index)
    left_value, right_value = values.gather(1, index - 1), values.gather(1, index)
    width = right_knot - left_knot
    # Outermost knots are equal where a standard deviation is less than float32 resolves.
    fraction = (x - left_knot) / width.where(width > 0, 1)
    return left_value + (right_value - left_value) * fraction


def make_scale(facts: Mapping[str, Any]) -> StandardScale | QuantileScale:
    """The scale that was fitted."""
    return QuantileScale(facts) if "quantiles" in facts else StandardScale(facts)
