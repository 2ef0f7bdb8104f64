"""Items to latents and back, a few hundred rows at a time."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mld_core import Autoencoder

BATCH = 512


@torch.no_grad()
def encode(
    autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"], latent_dim: int
) -> Float[Tensor, "row latent"]:
    """The latent of each item, float32; no rows give no latents."""
    parts = [autoencoder.encode(part).float() for part in x.split(BATCH) if len(part)]
    return torch.cat(parts) if parts else torch.zeros(0, latent_dim)


@torch.no_grad()
def decode(
    autoencoder: Autoencoder, z: Float[Tensor, "row latent"]
) -> Shaped[Tensor, " row *item"]:
    """The item of each latent. ValueError without rows, which would have no shape."""
    if not len(z):
        raise ValueError("nothing to decode")
    return torch.cat([autoencoder.decode(part) for part in z.split(BATCH)])


@torch.no_grad()
def nats_per_item(autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"]) -> float | None:
    """The mean −log p(x | encode(x)), up to the constant of `loss`; None without rows."""
    if not len(x):
        return None
    losses = [autoencoder.loss(autoencoder.encode(part), part) for part in x.split(BATCH)]
    return float(torch.cat(losses).double().mean())


__all__ = ["decode", "encode", "nats_per_item"]
