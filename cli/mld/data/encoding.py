"""Items to latents and back, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mld.runtime.progress import counting
from mld_core import Autoencoder, NumericalError

ENCODE_BATCH_SIZE = 512
"""Rows per call of an autoencoder."""


def batches(
    x: Shaped[Tensor, " row *item"], size: int, label: str
) -> Iterator[Shaped[Tensor, " part *item"]]:
    """The rows in batches, with the progress of the work on them; none without rows."""
    done = 0
    with counting(label, len(x)) as show_progress:
        for part in x.split(size) if len(x) else ():
            show_progress(done)
            yield part
            done += len(part)
        show_progress(done)


@torch.no_grad()
def encode(
    autoencoder: Autoencoder,
    x: Shaped[Tensor, " row *item"],
    latent_dim: int,
    label: str = "encode",
) -> Float[Tensor, "row latent"]:
    """The latent of each item, float32; no rows give no latents."""
    parts = [autoencoder.encode(part).float() for part in batches(x, ENCODE_BATCH_SIZE, label)]
    return torch.cat(parts) if parts else torch.zeros(0, latent_dim)


def encode_present(
    autoencoders: Mapping[str, Autoencoder],
    dims: Mapping[str, int],
    items: Mapping[str, Shaped[Tensor, " row *item"]],
    present: Bool[Tensor, "row modality"],
    label: str = "encode",
) -> dict[str, Float[Tensor, "row _"]]:
    """The latents of the present items, by modality; zeros where one is missing."""
    latents = {}
    for index, (name, dim) in enumerate(dims.items()):
        rows = present[:, index]
        latents[name] = torch.zeros(len(present), dim)
        if bool(rows.any()):
            x = items[name][rows]
            latents[name][rows] = encode(autoencoders[name], x, dim, f"{label} {name}")
    return latents


@torch.no_grad()
def decode(
    autoencoder: Autoencoder, z: Float[Tensor, "row latent"], name: str
) -> Shaped[Tensor, " row *item"]:
    """The item of each latent of a modality `name`.

    ValueError without rows, which would have no shape. NumericalError if an item is not finite.
    """
    if not len(z):
        raise ValueError("nothing to decode")
    parts = batches(z, ENCODE_BATCH_SIZE, f"decode {name}")
    items = torch.cat([autoencoder.decode(part) for part in parts])
    if items.is_floating_point() and not bool(items.isfinite().all()):
        raise NumericalError(
            f"a decoded item of {name!r} is not finite: the largest number of its latents is "
            f"{float(z.abs().max()):.3g}"
        )
    return items


@torch.no_grad()
def mean_nll(autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"]) -> float | None:
    """The mean −log p(x | encode(x)), up to the constant of `loss`; None without rows."""
    if not len(x):
        return None
    parts = batches(x, ENCODE_BATCH_SIZE, "reconstruct")
    losses = [autoencoder.loss(autoencoder.encode(part), part) for part in parts]
    return float(torch.cat(losses).double().mean())
