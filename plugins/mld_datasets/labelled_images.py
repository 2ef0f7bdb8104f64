"""Labelled images in memory as bytes, converted to PIL images one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from mld_core import DataError
from mld_datasets.item_source import LazyItems

CLASSES = 10


@dataclass(frozen=True)
class LabelledImages:
    """Images of digits.

    Args:
        names: one per image: its file and its index there.
        pixels: grey, or with a last axis of colours.
        labels: 0 to 9.
    """

    names: Sequence[str]
    pixels: UInt8[np.ndarray, "image row column *channel"]
    labels: Int[np.ndarray, " image"] | UInt8[np.ndarray, " image"]

    def __len__(self) -> int:
        return len(self.names)

    def block(self, start: int | None, stop: int | None) -> LabelledImages:
        """The images from `start` up to, but without, `stop`."""
        block = slice(start, stop)
        return LabelledImages(self.names[block], self.pixels[block], self.labels[block])

    def column(self, indices: Int[np.ndarray, " row"]) -> LazyItems:
        """The images at some indices as a column of a split: PIL images, made when indexed."""

        def image(index: int) -> Any:
            from PIL import Image

            return Image.fromarray(self.pixels[index])

        return LazyItems(image, indices)


def check_digit_labels(path: Path, labels: Shaped[np.ndarray, " entry"]) -> None:
    """DataError, naming the first one, if labels of a file are not whole numbers from 0 to 9."""
    for index, label in enumerate(labels.tolist()):
        if label not in range(CLASSES):
            raise DataError(f"{path}: entry {index} has label {label!r}; labels must be 0 to 9")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path}: labels must be whole numbers, not {labels.dtype}")


def make_labelled_images(
    path: Path, prefix: str, pixels: Any, labels: Any, colour: bool
) -> LabelledImages:
    """The images in a file's arrays, named by a prefix and their index.

    DataError, naming the path, if the arrays are not grey or colour images with digit labels.
    """
    channels = pixels.shape[3:]
    if pixels.dtype != np.uint8 or pixels.ndim < 3 or channels != ((3,) if colour else ()):
        shape = "(n, height, width, 3)" if colour else "(n, height, width)"
        raise DataError(
            f"{path}: images must be uint8 of shape {shape}, not {pixels.dtype} of shape "
            f"{pixels.shape}"
        )
    if labels.shape != pixels.shape[:1]:
        raise DataError(f"{path}: {len(pixels)} images, but labels of shape {labels.shape}")
    check_digit_labels(path, labels)
    return LabelledImages([f"{prefix}-{index}" for index in range(len(labels))], pixels, labels)
