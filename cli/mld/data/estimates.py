"""The best point estimates of items from several draws of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from mld_core import Modality, plugin_call

SIGNIFICANT_DIGITS = 7
"""Digits of a figure: what float32, in which draws are, holds."""
ROWS_AT_ONCE = 64
"""Rows whose draws are items in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """A point estimate of one item.

    Args:
        item: "*item".
        draw: the index of the draw that it is; None if it was computed from all of them.
        values: what else the modality says of the draws, by name, such as "std"; in seven digits.
    """

    item: Shaped[Tensor, "*item"]
    draw: int | None
    values: Mapping[str, float]


def best_estimate(
    modality: Modality,
    draws: Shaped[Tensor, " draw *item"],
    latents: Float[Tensor, "draw latent"],
    scale: Float[Tensor, "#latent"],
) -> Estimate:
    """The best estimate by the modality's own summary, or else the medoid of the draws.

    Args:
        latents: of the draws.
        scale: the standard deviation of each coordinate of the data's latents.
    """
    with plugin_call(f"kind {modality.kind!r}: summarise"):
        summary = modality.summarise(draws)
    if summary is not None:
        figures = {
            name: float(f"{value:.{SIGNIFICANT_DIGITS}g}") for name, value in summary.values.items()
        }
        return Estimate(summary.best, None, figures)
    index = medoid(latents / scale)
    return Estimate(draws[index], index, {})


def best_estimates(
    modality: Modality,
    latents: Float[Tensor, "row draw latent"],
    scale: Float[Tensor, "#latent"],
    items_at: Callable[[Int64[Tensor, " index"]], Shaped[Tensor, " index *item"]],
) -> Shaped[Tensor, " row *item"]:
    """The best estimate of each row, as `best_estimate` makes it.

    Args:
        items_at: the items of draws; the draws of a row are numbered one after the other, and the
            rows likewise. Without a summary only the chosen ones are asked for.
    """
    numbers = torch.arange(latents.shape[0] * latents.shape[1]).reshape(latents.shape[:2])
    if type(modality).summarise is Modality.summarise:
        chosen = [row[medoid(draws / scale)] for row, draws in zip(numbers, latents, strict=True)]
        return items_at(torch.stack(chosen))
    estimates = []
    for part in numbers.split(ROWS_AT_ONCE):
        items = items_at(part.flatten()).unflatten(0, part.shape)
        for row, draws in zip(part, items, strict=True):
            z = latents.flatten(0, 1)[row]
            estimates.append(best_estimate(modality, draws, z, scale).item)
    return torch.stack(estimates)


def medoid(points: Float[Tensor, "point coordinate"]) -> int:
    """The index of the point with the least sum of distances to all others, the first of equals."""
    points = points.double()
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return int(distances.sum(1).argmin())
