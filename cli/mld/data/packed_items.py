"""The items of a modality in the rows of a split, kept packed until they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from mld.data.stored_rows import DIGEST_ROWS, MappedTensor, StoredRows, moved, tensor_of
from mld.storage.digests import tensor_bytes
from mld_core import Modality


@dataclass(frozen=True, eq=False)
class Items(StoredRows):
    """The items of one modality by row, a part of which is made when indexed.

    Args:
        modality: that packs them.
        packed: those that are recorded, "stored *packed", in memory or in a file.
        place: of each row in `packed`; −1 where the item is missing.
    """

    modality: Modality
    packed: Shaped[Tensor, " stored *packed"] | MappedTensor
    place: Int64[Tensor, " row"]

    @classmethod
    def of(
        cls,
        modality: Modality,
        packed: Shaped[Tensor, " stored *packed"] | MappedTensor,
        present: Bool[Tensor, " row"],
    ) -> Items:
        """The items of rows, of which those with an item are packed in this order."""
        place = torch.where(present, present.cumsum(0) - 1, -1)
        return cls(modality, packed, place)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.place)

    def __getitem__(self, rows: Tensor | slice | int) -> Shaped[Tensor, "*any"]:
        """The items of rows, or the item of one; zeros where one is missing."""
        if isinstance(rows, int):
            return self[torch.tensor([rows])][0]
        return self.unpack(*self.packed_rows(rows))

    def select(self, rows: Tensor | slice) -> Items:
        """The same items of some rows alone."""
        return replace(self, place=self.place[rows])

    def on(
        self, rows: Int64[Tensor, " part"], device: torch.device
    ) -> Shaped[Tensor, " part *item"]:
        """Some items on a device: moved packed, which takes fewer bytes, and made there."""
        packed, missing = self.packed_rows(rows)
        missing = None if missing is None else moved(missing, device)
        return self.unpack(moved(packed, device), missing)

    def packed_rows(
        self, rows: Tensor | slice
    ) -> tuple[Shaped[Tensor, " part *packed"], Bool[Tensor, " part"] | None]:
        """The packed items of rows, and which are missing, whose packed ones mean nothing.

        None instead of these if none is missing.
        """
        place, stored = self.place[rows], self.stored
        if not len(stored):
            stored = stored.new_zeros((1, *stored.shape[1:]))
        missing = place < 0
        packed = stored.index_select(0, place.clamp(min=0))
        return packed, missing if bool(missing.any()) else None

    def unpack(
        self, packed: Shaped[Tensor, " part *packed"], missing: Bool[Tensor, " part"] | None
    ) -> Shaped[Tensor, " part *item"]:
        """The items of what `packed_rows` gave, on the device to which that has been moved."""
        x = self.modality.unpack(packed)
        if missing is None:
            return x
        return x.masked_fill(missing.view(-1, *[1] * (x.ndim - 1)), 0)

    @property
    def stored(self) -> Shaped[Tensor, " stored *packed"]:
        """The packed items, whether they are in memory or in a file."""
        return tensor_of(self.packed)

    @property
    def file(self) -> Path | None:
        """The file of the packed items; None if they are in memory."""
        return self.packed.path if isinstance(self.packed, MappedTensor) else None

    @property
    def present(self) -> Bool[Tensor, " row"]:
        """Whether each row has an item."""
        return self.place >= 0

    @property
    def recorded(self) -> Items:
        """The items of the rows that have one."""
        return self.select(self.present)

    @cached_property
    def digest(self) -> str:
        """The sha256 of shape, dtype and values, wherever they are kept."""
        stored = self.stored
        hasher = hashlib.sha256(f"{stored.dtype} {list(stored.shape[1:])}".encode())
        hasher.update(tensor_bytes(self.present))
        recorded = self.place[self.present]
        for rows in recorded.split(DIGEST_ROWS) if len(recorded) else ():
            hasher.update(tensor_bytes(stored.index_select(0, rows)))
        return hasher.hexdigest()

    def item_digests(self) -> Iterator[bytes]:
        """A digest of the item of each row; b"" where it is missing."""
        stored = self.stored.numpy()
        for place in self.place.tolist():
            yield _digest(stored[place].tobytes()) if place >= 0 else b""

    def in_file(self, path: Path) -> Items:
        """The same items in a file, which other processes can read; as they are if in one."""
        if isinstance(self.packed, MappedTensor):
            return self
        return replace(self, packed=MappedTensor.write(self.packed, path))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
