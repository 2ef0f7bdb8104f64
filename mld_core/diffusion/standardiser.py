"""Standardisation of latents by the mean and standard deviation of the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, LatentShape, Present

DEAD_STD_RATIO = 1e-4
"""A channel is dead if its std is at most this fraction of its modality's median std."""
CHUNK_NUMBERS = 2**24
"""Numbers of latents that are converted to float64 at a time."""


@dataclass(frozen=True)
class Standardiser:
    """Fixed statistics of the joint latent, and the affine maps that use them.

    The coordinates of one channel of a sequence or grid share their statistics, so that positions
    keep their differences; each coordinate of a vector is a channel.

    Args:
        mean, std: per coordinate, float32; std is 1 where a channel is dead.
        dead: which coordinates are (nearly) constant.
    """

    mean: Float[Tensor, " joint"]
    std: Float[Tensor, " joint"]
    dead: Bool[Tensor, " joint"]

    @classmethod
    def fit(cls, z: JointLatent, present: Present, layout: LatentLayout) -> Standardiser:
        """Statistics of the rows in which a modality is present, in float64, in one pass.

        (The official code takes them from the first minibatch, 6 % off for each std.) ValueError
        if a modality is present in fewer than two rows.
        """
        parts = []
        for index, (name, latent) in enumerate(layout.split(z).items()):
            shape, rows = layout.shapes[name], present[:, index]
            count = int(rows.sum())
            if count < 2:
                raise ValueError(f"{name} is present in {count} rows; at least two are needed")
            mean, std = _channel_moments(latent, rows, shape)
            dead = std <= DEAD_STD_RATIO * std.median()
            statistics = (mean.float(), torch.where(dead, 1.0, std).float(), dead)
            parts.append([_spread(values, shape) for values in statistics])
        return cls(*map(torch.cat, zip(*parts, strict=True)))

    def shifted(self, layout: LatentLayout) -> Standardiser:
        """Statistics by which standardised latents have the layout's `latent_std`, not 1."""
        return replace(self, std=self.std / layout.expand(layout.latent_std).to(self.std))

    @classmethod
    def concatenate(cls, parts: Sequence[Standardiser]) -> Standardiser:
        """The statistics of some latents after each other, as `by_modality` divides them."""
        values = ((part.mean, part.std, part.dead) for part in parts)
        return cls(*map(torch.cat, zip(*values, strict=True)))

    def by_modality(self, layout: LatentLayout) -> dict[str, Standardiser]:
        """The statistics of each modality's latent."""
        widths = list(layout.dims.values())
        parts = (values.split(widths) for values in (self.mean, self.std, self.dead))
        return dict(zip(layout.names, map(Standardiser, *parts), strict=True))

    def standardise(self, z: JointLatent) -> JointLatent:
        """Raw latents to standardised ones."""
        return (z - self.mean.to(z.device)) / self.std.to(z.device)

    def unstandardise(self, z: JointLatent) -> JointLatent:
        """Standardised latents to raw ones."""
        return z * self.std.to(z.device) + self.mean.to(z.device)


def _channel_moments(
    latent: Float[Tensor, "row latent"], present: Bool[Tensor, " row"], shape: LatentShape
) -> tuple[Float64[Tensor, " channel"], Float64[Tensor, " channel"]]:
    """Mean and standard deviation of each channel over the present rows and all positions.

    Moments of chunks are merged as by Chan et al. (1983).
    """
    count, mean, variance = 0, torch.zeros(()), torch.zeros(())
    for chunk in torch.nonzero(present)[:, 0].split(max(1, CHUNK_NUMBERS // latent.shape[1])):
        values = _channels_last(latent[chunk].double(), shape)
        share = len(values) / (count + len(values))
        chunk_variance, chunk_mean = torch.var_mean(values, 0, correction=0)
        difference = chunk_mean - mean
        variance = variance + share * (chunk_variance - variance)
        variance = variance + share * (1 - share) * difference.square()
        mean = mean + share * difference
        count += len(values)
    return mean, variance.sqrt()


def _channels_last(
    latent: Float[Tensor, "row latent"], shape: LatentShape
) -> Float[Tensor, "position channel"]:
    """One row per position of each latent."""
    if len(shape) == 3:
        return latent.view(-1, shape[0], shape[1] * shape[2]).mT.reshape(-1, shape[0])
    return latent.reshape(-1, shape[-1])


def _spread(values: Shaped[Tensor, " channel"], shape: LatentShape) -> Shaped[Tensor, " latent"]:
    """The values of channels, repeated over their positions."""
    return (values[:, None, None] if len(shape) == 3 else values).expand(shape).flatten()
