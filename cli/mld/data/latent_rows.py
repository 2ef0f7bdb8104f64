"""Latents of the rows of a split: kept raw, in memory or in a file, and standardised when used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mld.data.stored_rows import MappedTensor, StoredRows, moved, tensor_of
from mld.data.types import LatentCache, SplitLatents
from mld.storage.digests import digest_of_parts
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.standardiser import Standardiser

CHUNK_NUMBERS = 2**21
"""Numbers that are standardised at once where all rows are."""


@dataclass(frozen=True, eq=False)
class LatentRows(StoredRows):
    """Standardised latents, zero where a modality is missing.

    Args:
        raw: the joint latents of a split.
        place: of each row in `raw`.
        present: whether each row has each modality.
        standardiser: of the joint latent.
        name: of the only modality whose latents these are; None for the joint latent.
    """

    raw: Float[Tensor, "stored joint"] | MappedTensor
    place: Int64[Tensor, " row"]
    present: Bool[Tensor, "row modality"]
    layout: LatentLayout
    standardiser: Standardiser
    name: str | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.place)

    def __getitem__(self, rows: Tensor | slice) -> Float[Tensor, "row latent"]:
        """The latents of some rows."""
        z, scale = tensor_of(self.raw), self.standardiser
        present = self.present[rows]
        if self.name is None:
            recorded = self.layout.expand(present)
        else:
            z, scale = self.layout.split(z)[self.name], self._scales[self.name]
            recorded = present[:, self.layout.names.index(self.name), None]
        return torch.where(recorded, scale.standardise(z.index_select(0, self.place[rows])), 0.0)

    @cached_property
    def _scales(self) -> dict[str, Standardiser]:
        return self.standardiser.by_modality(self.layout)

    def select(self, rows: Tensor | slice) -> LatentRows:
        """The same latents of some rows alone."""
        return replace(self, place=self.place[rows], present=self.present[rows])

    def on(
        self, rows: Int64[Tensor, " part"], device: torch.device
    ) -> Float[Tensor, "part latent"]:
        """Some latents, moved to a device when they are made, so that all devices have the same."""
        return moved(self[rows], device)

    def all_on(self, device: torch.device) -> Float[Tensor, "row latent"]:
        """All latents on a device, of which only a part at a time is made in memory."""
        z = torch.empty(len(self), self.width, device=device)
        for rows in self._chunks():
            z[rows] = self[rows].to(device)
        return z

    def _chunks(self) -> Iterator[slice]:
        """All rows in order, some at once."""
        size = max(1, CHUNK_NUMBERS // self.layout.joint_dim)
        return (slice(start, start + size) for start in range(0, len(self), size))

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return self.layout.joint_dim if self.name is None else self.layout.dims[self.name]

    @property
    def nbytes(self) -> int:
        """Bytes of all latents."""
        return 4 * len(self) * self.width

    @cached_property
    def digest(self) -> str:
        """As of the tensor that holds all of them."""
        parts = (self[rows] for rows in self._chunks())
        return digest_of_parts(torch.float32, (len(self), self.width), parts)

    @property
    def file(self) -> Path | None:
        """The file of the raw latents; None if they are in memory."""
        return self.raw.path if isinstance(self.raw, MappedTensor) else None

    def in_file(self, path: Path) -> LatentRows:
        """The same latents in a file, which other processes can read; as they are if in one."""
        if isinstance(self.raw, MappedTensor):
            return self
        return replace(self, raw=MappedTensor.write(self.raw, path))


def latent_rows(
    latents: LatentCache, split: SplitLatents, usable: Bool[Tensor, " row"]
) -> LatentRows:
    """The standardised joint latents of the usable rows of a split."""
    place = usable.nonzero().flatten()
    present = split.present[usable]
    return LatentRows(split.stored, place, present, latents.layout, latents.standardiser)
