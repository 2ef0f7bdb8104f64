"""Items to latents and back, in batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mld_core import Autoencoder

ENCODE_BATCH_SIZE = 512
"""Rows per call of an autoencoder."""


@torch.no_grad()
def encode(
    autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"], latent_dim: int
) -> Float[Tensor, "row latent"]:
    """The latent of each item, float32; no rows give no latents."""
    parts = [autoencoder.encode(part).float() for part in x.split(ENCODE_BATCH_SIZE) if len(part)]
    return torch.cat(parts) if parts else torch.zeros(0, latent_dim)


def encode_present(
    autoencoders: Mapping[str, Autoencoder],
    dims: Mapping[str, int],
    items: Mapping[str, Shaped[Tensor, " row *item"]],
    present: Bool[Tensor, "row modality"],
) -> dict[str, Float[Tensor, "row _"]]:
    """The latents of the present items, by modality; zeros where one is missing."""
    latents = {}
    for index, (name, dim) in enumerate(dims.items()):
        rows = present[:, index]
        latents[name] = torch.zeros(len(present), dim)
        if bool(rows.any()):
            latents[name][rows] = encode(autoencoders[name], items[name][rows], dim)
    return latents


@torch.no_grad()
def decode(
    autoencoder: Autoencoder, z: Float[Tensor, "row latent"]
) -> Shaped[Tensor, " row *item"]:
    """The item of each latent. ValueError without rows, which would have no shape."""
    if not len(z):
        raise ValueError("nothing to decode")
    return torch.cat([autoencoder.decode(part) for part in z.split(ENCODE_BATCH_SIZE)])


@torch.no_grad()
def mean_nll(autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"]) -> float | None:
    """The mean −log p(x | encode(x)), up to the constant of `loss`; None without rows."""
    if not len(x):
        return None
    parts = x.split(ENCODE_BATCH_SIZE)
    losses = [autoencoder.loss(autoencoder.encode(part), part) for part in parts]
    return float(torch.cat(losses).double().mean())
