"""The best point estimate of an item from several draws of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mld_core import Modality, plugin_call


@dataclass(frozen=True)
class Estimate:
    """A point estimate of one item.

    Args:
        item: "*item".
        draw: the index of the draw that it is; None if it was computed from all of them.
        values: what else the modality says of the draws, by name, such as "std".
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
        return Estimate(summary.best, None, summary.values)
    index = medoid(latents / scale)
    return Estimate(draws[index], index, {})


def medoid(points: Float[Tensor, "point coordinate"]) -> int:
    """The index of the point with the least sum of distances to all others, the first of equals."""
    points = points.double()
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return int(distances.sum(1).argmin())
