"""Items to latents and back, in batches.

A network computes on the device where it is. Only a batch is there with it: rows come from the
processor's memory or a file, and results go back to that memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from mld.data.packed_items import Items
from mld.data.stored_rows import rows_on
from mld.runtime.compute import device_of
from mld.runtime.progress import counting
from mld_core import Autoencoder, NumericalError

BATCH_ROWS = 512
"""Rows per call of a network, at most."""
BATCH_BYTES = 2**22
"""Bytes of items per call: networks need many times as much in between."""


def batches(
    x: Shaped[Tensor, " row *item"] | Items,
    device: torch.device,
    label: str,
    item_bytes: int | None = None,
) -> Iterator[Shaped[Tensor, " part *item"]]:
    """The rows in batches on a device, with the progress of the work on them; none without rows.

    Args:
        item_bytes: of what a network makes of a row or gets; by default those of a row of `x`.
    """
    done = 0
    with counting(label, len(x)) as show_progress:
        if not len(x):
            return
        size = BATCH_BYTES // max(1, x[:1].nbytes if item_bytes is None else item_bytes)
        for rows in torch.arange(len(x)).split(max(1, min(BATCH_ROWS, size))):
            show_progress(done)
            yield rows_on(x, rows, device)
            done += len(rows)
        show_progress(done)


def encode(
    autoencoder: Autoencoder,
    x: Shaped[Tensor, " row *item"] | Items,
    latent_dim: int,
    label: str = "encode",
) -> Float[Tensor, "row latent"]:
    """The latent of each item, float32; no rows give no latents."""
    parts = [*_encoded(autoencoder, x, label)]
    return torch.cat(parts) if parts else torch.zeros(0, latent_dim)


@torch.no_grad()
def _encoded(
    autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"] | Items, label: str
) -> Iterator[Float[Tensor, "part latent"]]:
    """The latents of the items, a batch after the other."""
    for part in batches(x, device_of(autoencoder), label):
        yield autoencoder.encode(part).float().cpu()


def encode_present(
    autoencoders: Mapping[str, Autoencoder],
    items: Mapping[str, Items],
    present: Bool[Tensor, "row modality"],
    label: str = "encode",
) -> Iterator[tuple[str, Int64[Tensor, " part"], Float[Tensor, "part latent"]]]:
    """The latents of the present items, a batch after the other: modality, rows and latents.

    Args:
        present: by modality in the order of `autoencoders`.
    """
    for index, (name, autoencoder) in enumerate(autoencoders.items()):
        rows, done = present[:, index].nonzero().flatten(), 0
        if not len(rows):
            continue
        for part in _encoded(autoencoder, items[name].select(rows), f"{label} {name}"):
            yield name, rows[done : done + len(part)], part
            done += len(part)


@torch.no_grad()
def decode(
    autoencoder: Autoencoder, z: Float[Tensor, "row latent"], name: str
) -> Shaped[Tensor, " row *item"]:
    """The item of each latent of a modality `name`.

    ValueError without rows, which would have no shape. NumericalError if an item is not finite.
    """
    if not len(z):
        raise ValueError("nothing to decode")
    device = device_of(autoencoder)
    item_bytes = autoencoder.decode(z[:1].to(device)).nbytes
    parts = batches(z, device, f"decode {name}", item_bytes)
    items = torch.cat([autoencoder.decode(part).cpu() for part in parts])
    if items.is_floating_point() and not bool(items.isfinite().all()):
        raise NumericalError(
            f"a decoded item of {name!r} is not finite: the largest number of its latents is "
            f"{float(z.abs().max()):.3g}"
        )
    return items


@torch.no_grad()
def mean_nll(autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"] | Items) -> float | None:
    """The mean −log p(x | encode(x)), up to the constant of `loss`; None without rows."""
    if not len(x):
        return None
    parts = batches(x, device_of(autoencoder), "reconstruct")
    losses = [autoencoder.loss(autoencoder.encode(part), part).cpu() for part in parts]
    return float(torch.cat(losses).double().mean())
