"""Rows that stay in memory or in a file until a part of them is used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from mld.storage.digests import tensor_bytes, tensor_digest
from mld.storage.locks import mark_used

Rows = TypeVar("Rows", bound="Tensor | StoredRows")

DIGEST_ROWS = 512
"""Rows that are read at once for a digest."""


@dataclass(frozen=True)
class MappedTensor:
    """A tensor in a file, which processes share through the system's cache.

    Args:
        offset: of its first byte in the file.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int = 0

    @classmethod
    def write(cls, tensor: Tensor, path: Path) -> MappedTensor:
        """Write a file of a tensor's bytes alone."""
        with path.open("wb") as file:
            file.write(tensor_bytes(tensor))
        return cls(path, tuple(tensor.shape), tensor.dtype)

    def __post_init__(self) -> None:
        mark_used(self.path, self)

    @cached_property
    def tensor(self) -> Shaped[Tensor, "*any"]:
        """The tensor, read where it is used; it must not be changed."""
        size = torch.Size(self.shape).numel()
        if not size:
            return torch.empty(self.shape, dtype=self.dtype)
        length = self.offset + size * self.dtype.itemsize
        content = torch.from_file(str(self.path), shared=False, size=length, dtype=torch.uint8)
        return content[self.offset :].view(self.dtype).view(self.shape)

    def __getstate__(self) -> dict[str, object]:
        """Other processes map the file, too."""
        fields = ("path", "shape", "dtype", "offset")
        return {name: getattr(self, name) for name in fields}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.__post_init__()


def tensor_of(x: Shaped[Tensor, "*any"] | MappedTensor) -> Shaped[Tensor, "*any"]:
    """A tensor, whether it is in memory or in a file."""
    return x.tensor if isinstance(x, MappedTensor) else x


class StoredRows(ABC):
    """Rows of which a part is made, from what is kept of them, when indexed."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    @abstractmethod
    def __getitem__(self, rows: Tensor | slice) -> Shaped[Tensor, " row *any"]:
        """Some rows, on the processor."""

    @abstractmethod
    def select(self, rows: Tensor | slice) -> Self:
        """Some of the rows, which are not made yet."""

    @abstractmethod
    def on(
        self, rows: Int64[Tensor, " part"], device: torch.device
    ) -> Shaped[Tensor, " part *any"]:
        """Some rows, on a device."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """The sha256 of all rows, wherever they are kept."""

    @abstractmethod
    def in_file(self, path: Path) -> Self:
        """The same rows in a file, which other processes can read; as they are if in one."""

    @property
    @abstractmethod
    def file(self) -> Path | None:
        """The file that keeps them; None if they are in memory."""


def digest_rows(x: Tensor | StoredRows) -> str:
    """The sha256 of rows."""
    return x.digest if isinstance(x, StoredRows) else tensor_digest(x)


def rows_on(
    x: Shaped[Tensor, " row *any"] | StoredRows,
    rows: Int64[Tensor, " part"],
    device: torch.device,
) -> Shaped[Tensor, " part *any"]:
    """Some rows, on a device."""
    if isinstance(x, StoredRows):
        return x.on(rows.cpu(), device)
    return moved(x.index_select(0, rows.to(x.device)), device)


def moved(x: Shaped[Tensor, "*any"], device: torch.device) -> Shaped[Tensor, "*any"]:
    """A tensor on a device. A GPU computes on while it is copied there."""
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def select_rows(x: Rows, rows: Tensor) -> Rows:
    """Some rows, those of stored ones not made yet."""
    selected: Any = x.select(rows) if isinstance(x, StoredRows) else x[rows]
    return selected  # type: ignore[no-any-return]
