"""Items to latents and back, a few hundred rows at a time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Shaped
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


def encode_present(
    autoencoders: Mapping[str, Autoencoder],
    dims: Mapping[str, int],
    items: Mapping[str, Shaped[Tensor, " row *item"]],
    present: Bool[Tensor, "row modality"],
) -> dict[str, Float[Tensor, "row _"]]:
    """The latents of what is recorded, by modality; zeros where it is missing."""
    latents = {}
    for index, (name, dim) in enumerate(dims.items()):
        recorded = present[:, index]
        latents[name] = torch.zeros(len(present), dim)
        if bool(recorded.any()):
            latents[name][recorded] = encode(autoencoders[name], items[name][recorded], dim)
    return latents


@torch.no_grad()
def decode(
    autoencoder: Autoencoder, z: Float[Tensor, "row latent"]
) -> Shaped[Tensor, " row *item"]:
    """The item of each latent. ValueError without rows, which would have no shape."""
    if not len(z):
        raise ValueError("nothing to decode")
    return torch.cat([autoencoder.decode(part) for part in z.split(BATCH)])


@torch.no_grad()
def mean_nll(autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"]) -> float | None:
    """The mean −log p(x | encode(x)), up to the constant of `loss`; None without rows."""
    if not len(x):
        return None
    losses = [autoencoder.loss(autoencoder.encode(part), part) for part in x.split(BATCH)]
    return float(torch.cat(losses).double().mean())
