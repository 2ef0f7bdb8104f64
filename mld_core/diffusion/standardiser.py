"""Zero mean and unit variance for every latent coordinate, over the whole training cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mld_core.diffusion.latent_layout import LatentLayout

DEAD_SHARE = 1e-4
"""A coordinate whose std is below this share of its modality's median std carries nothing."""


@dataclass(frozen=True)
class Standardiser:
    """Fixed statistics of the joint latent, and the affine maps that use them.

    Args:
        mean, std: per coordinate, float32; std is 1 where a coordinate is dead.
        dead: which coordinates are dead.
    """

    mean: Float[Tensor, " joint"]
    std: Float[Tensor, " joint"]
    dead: Bool[Tensor, " joint"]

    @classmethod
    def fit(
        cls,
        z: Float[Tensor, "row joint"],
        present: Bool[Tensor, "row modality"],
        layout: LatentLayout,
    ) -> Standardiser:
        """Statistics over the recorded rows only, in float64.

        (The official code takes them from the first minibatch: 6 % off on each std.) ValueError
        if a modality is recorded in fewer than two rows.
        """
        means, stds, deads = [], [], []
        for index, (name, latent) in enumerate(layout.split(z).items()):
            recorded = latent[present[:, index]].double()
            if len(recorded) < 2:
                raise ValueError(f"{name} is recorded in {len(recorded)} rows; need at least two")
            std = recorded.std(dim=0, correction=0)
            dead = std <= DEAD_SHARE * std.median()
            means.append(recorded.mean(dim=0))
            stds.append(torch.where(dead, 1.0, std))
            deads.append(dead)
        return cls(torch.cat(means).float(), torch.cat(stds).float(), torch.cat(deads))

    def standardise(self, z: Float[Tensor, "row joint"]) -> Float[Tensor, "row joint"]:
        """Raw latents to standardised ones."""
        return (z - self.mean.to(z.device)) / self.std.to(z.device)

    def restore(self, z: Float[Tensor, "row joint"]) -> Float[Tensor, "row joint"]:
        """Standardised latents back to raw ones."""
        return z * self.std.to(z.device) + self.mean.to(z.device)
