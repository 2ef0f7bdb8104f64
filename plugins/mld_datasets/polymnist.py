"""The dataset `polymnist`: digits of one label, each on the background photo of its column."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from pydantic import Field

from mld_core import DataError, Dataset, Split, SplitName, hookimpl
from mld_datasets.download import Source, unreadable_error
from mld_datasets.item_source import LazyItems
from mld_datasets.mnist import MnistConfig, MnistDataset
from mld_datasets.pairing import draw_distinct, split_rng

SOURCE = Source(
    name="background photos",
    address="any source, such as https://github.com/rooshenasgroup/sbmae",
    layout="as many .jpg, .jpeg or .png files as there are columns, in the subfolder "
    "polymnist_backgrounds or backgrounds",
)
_SUFFIXES = (".jpg", ".jpeg", ".png")
_MIN_INK_LEVEL = 128
"""A pixel of a digit is ink from this grey level on."""

RgbImage = UInt8[np.ndarray, "row column 3"]


class PolymnistConfig(MnistConfig):
    """Where the data are, and the number of columns.

    The folder has `MNIST/raw/` with MNIST's four files (plain or .gz), itself or in its
    subfolder `mnist`; and photos (.jpg, .jpeg or .png) in its subfolder `polymnist_backgrounds`
    or `backgrounds`, one for each column, in the order of their names.
    """

    columns: int = Field(5, ge=2, le=100, description="columns m0, m1, ..., one photo each")


class Polymnist(MnistDataset):
    """MNIST digits of one label on background photos, with a column for each photo.

    A row shows another image of its label in every column, on a patch of the column's photo cut
    out at random; where there is ink, the colours of the patch are inverted (as in PolyMNIST,
    Sutter, Daunhawer and Vogt 2021). Each image of MNIST is in each column once.
    """

    kind = "polymnist"
    Config = PolymnistConfig
    config: PolymnistConfig

    def _find_files(self) -> list[Path]:
        return photo_files(self.config.folder, self.config.columns)

    @property
    def columns(self) -> Mapping[str, str]:
        """The images m0, m1 and so on."""
        return {f"m{index}": "image" for index in range(self.config.columns)}

    @cached_property
    def _photos(self) -> list[RgbImage]:
        return [_read_photo(path) for path in self._files]

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in random order; images are made when indexed."""
        images, photos = self._mnist.images(name), self._photos
        size = images.pixels.shape[1:]
        for path, photo in zip(self._files, photos, strict=True):
            if min(np.subtract(photo.shape[:2], size)) < 0:
                photo_size, digit_size = (" x ".join(map(str, s)) for s in (photo.shape[:2], size))
                raise DataError(f"{path}: has {photo_size} pixels, but a digit has {digit_size}")
        rng = split_rng(self.seed, name)
        indices = draw_distinct(images.labels, len(photos), rng)
        corners = rng.random((*indices.shape, 2))
        limit = self.config.limit(name)
        indices, corners = indices[:limit], corners[:limit]
        return Split(
            ids=[
                f"{name}-{row}: {' '.join(images.names[index] for index in row_indices)}"
                for row, row_indices in enumerate(indices.tolist())
            ],
            items={
                column: _composites(images.pixels, photo, indices[:, k], corners[:, k])
                for k, (column, photo) in enumerate(zip(self.columns, photos, strict=True))
            },
            labels=images.labels[indices[:, 0]].tolist(),
        )


def _composites(
    pixels: UInt8[np.ndarray, "image row column"],
    photo: RgbImage,
    indices: Int[np.ndarray, " row"],
    corners: Float[np.ndarray, "row 2"],
) -> LazyItems:
    """For each row, the digit with its index on a patch of the photo, as a PIL image.

    `corners` are the top left corners of the patches, as fractions in [0, 1) of the positions that
    are possible.
    """

    def composite(row: int) -> Any:
        from PIL import Image

        digit = pixels[indices[row]]
        positions = np.subtract(photo.shape[:2], digit.shape) + 1
        top, left = (corners[row] * positions).astype(int)
        patch = photo[top : top + digit.shape[0], left : left + digit.shape[1]]
        is_ink = digit[..., None] >= _MIN_INK_LEVEL
        return Image.fromarray(np.where(is_ink, 255 - patch, patch))

    return LazyItems(composite, range(len(indices)))


def photo_files(folder: Path, count: int) -> list[Path]:
    """The first photos, by name, in the first subfolder that exists."""
    for subfolder in (folder / "polymnist_backgrounds", folder / "backgrounds"):
        if subfolder.is_dir():
            files = sorted(path for path in subfolder.iterdir() if path.suffix.lower() in _SUFFIXES)
            if len(files) < count:
                problem = f"{subfolder} has {len(files)} photos, but columns is {count}"
                raise SOURCE.missing_error(folder, problem)
            return files[:count]
    raise SOURCE.missing_error(folder)


def _read_photo(path: Path) -> RgbImage:
    from PIL import Image

    try:
        with Image.open(path) as photo:
            return np.asarray(photo.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable_error(path, error) from error


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [Polymnist]
