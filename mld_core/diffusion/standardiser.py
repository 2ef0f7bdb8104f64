"""Standardisation of latents by the mean and standard deviation of the training rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, Present

DEAD_STD_RATIO = 1e-4
"""A coordinate is dead if its std is at most this fraction of its modality's median std."""


@dataclass(frozen=True)
class Standardiser:
    """Fixed statistics of the joint latent, and the affine maps that use them.

    Args:
        mean, std: per coordinate, float32; std is 1 where a coordinate is dead.
        dead: which coordinates are (nearly) constant.
    """

    mean: Float[Tensor, " joint"]
    std: Float[Tensor, " joint"]
    dead: Bool[Tensor, " joint"]

    @classmethod
    def fit(cls, z: JointLatent, present: Present, layout: LatentLayout) -> Standardiser:
        """Statistics of the rows in which a modality is present, in float64.

        (The official code takes them from the first minibatch, 6 % off for each std.) ValueError
        if a modality is present in fewer than two rows.
        """
        means, stds, deads = [], [], []
        for index, (name, latent) in enumerate(layout.split(z).items()):
            rows = latent[present[:, index]].double()
            if len(rows) < 2:
                raise ValueError(f"{name} is present in {len(rows)} rows; at least two are needed")
            std = rows.std(dim=0, correction=0)
            dead = std <= DEAD_STD_RATIO * std.median()
            means.append(rows.mean(dim=0))
            stds.append(torch.where(dead, 1.0, std))
            deads.append(dead)
        return cls(torch.cat(means).float(), torch.cat(stds).float(), torch.cat(deads))

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
