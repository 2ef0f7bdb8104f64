"""The dataset `polymnist`: digits of one label, each before a photo of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from pydantic import Field

from mld_core import DataError, Dataset, Modality, Split, SplitName, hookimpl
from mld_datasets.download import Source, content_digest, unreadable
from mld_datasets.labelled_images import CLASSES
from mld_datasets.mnist import Mnist, MnistConfig
from mld_datasets.pairing import draw_distinct, split_rng

SOURCE = Source(
    name="set of background photos",
    address="wherever you like, such as https://github.com/rooshenasgroup/sbmae",
    layout="as many .jpg, .jpeg or .png files as there are columns, in the subfolder "
    "polymnist_backgrounds or backgrounds",
)
_SUFFIXES = (".jpg", ".jpeg", ".png")
_INK = 128
"""From this level on a pixel of a digit is ink."""

Colours = UInt8[np.ndarray, "row column 3"]


class PolymnistConfig(MnistConfig):
    """Where the data are, and how many columns there are.

    The folder holds `MNIST/raw/` with MNIST's four files (plain or .gz), itself or in its
    subfolder `mnist`; and photos (.jpg, .jpeg or .png) in its subfolder `polymnist_backgrounds`
    or `backgrounds`, one for each column, in the order of their names.
    """

    columns: int = Field(5, ge=2, le=100, description="columns m0, m1, ..., one photo each")


class Polymnist(Dataset):
    """MNIST digits of one label before photos, with a column for each photo.

    A row shows another image of its label in every column, before a patch of the column's photo
    cut out at random; where there is ink, the patch's colours are inverted (as Sutter, Daunhawer
    and Vogt 2021 build PolyMNIST). Each image of MNIST is in each column once.
    """

    kind = "polymnist"
    Config = PolymnistConfig
    config: PolymnistConfig
    classes = tuple(str(label) for label in range(CLASSES))

    def __init__(
        self, config: PolymnistConfig, modalities: Mapping[str, Modality], seed: int
    ) -> None:
        super().__init__(config, modalities, seed)
        self._mnist = Mnist(config.folder, config.download)
        self._files = _photo_files(config.folder, config.columns)

    @property
    def columns(self) -> Mapping[str, str]:
        """As many images as wanted: m0, m1 and so on."""
        return {f"m{index}": "image" for index in range(self.config.columns)}

    @cached_property
    def _photos(self) -> list[Colours]:
        return [_read_photo(path) for path in self._files]

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in random order; images are made when indexed."""
        pictures, photos = self._mnist.pictures(name), self._photos
        side = pictures.pixels.shape[1:]
        for path, photo in zip(self._files, photos, strict=True):
            if min(np.subtract(photo.shape[:2], side)) < 0:
                told = " x ".join(map(str, photo.shape[:2]))
                raise DataError(f"{path}: has {told} pixels, fewer than a digit")
        rng = split_rng(self.seed, name)
        chosen = draw_distinct(pictures.labels, len(photos), rng)
        corners = rng.random((*chosen.shape, 2))
        limit = self.config.limit(name)
        shown = chosen[:limit]
        return Split(
            ids=[
                f"{name}-{row}: {' '.join(pictures.names[index] for index in own)}"
                for row, own in enumerate(shown.tolist())
            ],
            items={
                column: _Composed(pictures.pixels, photo, shown[:, index], corners[:, index])
                for index, (column, photo) in enumerate(zip(self.columns, photos, strict=True))
            },
            labels=pictures.labels[shown[:, 0]].tolist(),
        )

    def fingerprint(self) -> str:
        """Also of the files' contents."""
        return content_digest(super().fingerprint(), [*self._mnist.files, *self._files])


@dataclass(frozen=True)
class _Composed(Sequence[Any]):
    """Digits before patches of a photo, as PIL images made when indexed.

    Args:
        chosen: the digit of each row.
        corners: where each row's patch begins, as shares of the room that the photo leaves.
    """

    pixels: UInt8[np.ndarray, "picture row column"]
    photo: Colours
    chosen: Int[np.ndarray, " row"]
    corners: Float[np.ndarray, "row 2"]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, row: Any) -> Any:
        from PIL import Image

        digit = self.pixels[self.chosen[row]]
        room = np.subtract(self.photo.shape[:2], digit.shape) + 1
        top, left = (self.corners[row] * room).astype(int)
        patch = self.photo[top : top + digit.shape[0], left : left + digit.shape[1]]
        return Image.fromarray(np.where(digit[..., None] >= _INK, 255 - patch, patch))


def _photo_files(folder: Path, count: int) -> list[Path]:
    """The first photos in the first place that has any."""
    for place in (folder / "polymnist_backgrounds", folder / "backgrounds"):
        if place.is_dir():
            files = sorted(path for path in place.iterdir() if path.suffix.lower() in _SUFFIXES)
            if len(files) < count:
                lacks = f"{place} has {len(files)} photos, and columns is {count}"
                raise SOURCE.missing(folder, lacks)
            return files[:count]
    raise SOURCE.missing(folder)


def _read_photo(path: Path) -> Colours:
    from PIL import Image

    try:
        with Image.open(path) as photo:
            return np.asarray(photo.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from error


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The dataset of this module, for mld."""
    return [Polymnist]
