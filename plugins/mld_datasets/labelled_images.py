"""Labelled pictures in memory as bytes, made into PIL images one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from mld_core import DataError
from mld_datasets.pairing import IndexedView

CLASSES = 10


@dataclass(frozen=True)
class Pictures:
    """Pictures of digits.

    Args:
        names: one per picture; file and index.
        pixels: grey, or with a last axis of colour.
        labels: 0 to 9.
    """

    names: Sequence[str]
    pixels: UInt8[np.ndarray, "picture row column *channel"]
    labels: Int[np.ndarray, " picture"] | UInt8[np.ndarray, " picture"]

    def __len__(self) -> int:
        return len(self.names)

    def cut(self, start: int | None, stop: int | None) -> Pictures:
        """A contiguous block of them."""
        chosen = slice(start, stop)
        return Pictures(self.names[chosen], self.pixels[chosen], self.labels[chosen])

    def column(self, chosen: Int[np.ndarray, " row"]) -> IndexedView:
        """The chosen ones as a column of a split."""
        return IndexedView(_Images(self.pixels), chosen)


@dataclass(frozen=True)
class _Images(Sequence[Any]):
    """PIL images, made when indexed."""

    pixels: UInt8[np.ndarray, "picture row column *channel"]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> Any:
        from PIL import Image

        return Image.fromarray(self.pixels[index])


def demand_digits(path: Path, labels: Shaped[np.ndarray, " entry"]) -> None:
    """DataError, naming the first, where labels of a file are not whole numbers from 0 to 9."""
    for place, label in enumerate(labels.tolist()):
        if label not in range(CLASSES):
            raise DataError(f"{path}: entry {place} has label {label!r}, and labels are 0 to 9")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path}: labels must be whole numbers, and are {labels.dtype}")


def named_pictures(path: Path, name: str, pixels: Any, labels: Any, axes: int) -> Pictures:
    """The pictures of a file, called by a name and their index; DataError if they are none.

    axes: of `pixels`, 3 for grey ones and 4 for coloured ones.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != axes or (axes == 4 and pixels.shape[3] != 3):
        form = "grey" if axes == 3 else "coloured"
        raise DataError(
            f"{path}: pictures must be bytes, {form}, and are {pixels.dtype} of shape "
            f"{pixels.shape}"
        )
    if labels.shape != pixels.shape[:1]:
        raise DataError(f"{path}: {len(pixels)} pictures, but labels of shape {labels.shape}")
    demand_digits(path, labels)
    return Pictures([f"{name}-{index}" for index in range(len(labels))], pixels, labels)
