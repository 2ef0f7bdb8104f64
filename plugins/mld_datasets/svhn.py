"""SVHN's cropped digits in a folder of the user's: as torchvision keeps them, or parts of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from mld_core import DataError, SplitName
from mld_datasets.download import Source, read_npz, unreadable
from mld_datasets.labelled_images import Pictures, named_pictures

SOURCE = Source(
    name="SVHN",
    address="http://ufldl.stanford.edu/housenumbers",
    layout="train_32x32.mat and test_32x32.mat, or parts of the data as svhn*.npz with the arrays "
    "images (n, 32, 32, 3), labels and, if known, photo; in the folder or in its subfolder svhn",
)


class Svhn:
    """The images of SVHN by split.

    Of the whole data, validation is the end of the training set and the test split is the test
    set. Of parts (.npz), one with the word train in its name is for training alone; every other is
    cut into contiguous blocks for training, validation and test, in that order, never within a
    photo where `photo` numbers the street photo of each image: neighbours show the same house.

    Args:
        validation: images of the validation split, about.
        test: images of the test split of each part, about.
    """

    def __init__(self, folder: Path, download: bool, validation: int, test: int) -> None:
        self._validation = validation
        self._test = test
        self.files = _found(folder)
        if not self.files and download:
            SOURCE.download(folder, folder / "svhn", _fetch)
            self.files = _found(folder)
        if not self.files:
            raise SOURCE.missing(folder, advice=", or set download: true")
        if all(map(_trains_alone, self.files)):
            names = ", ".join(path.name for path in self.files)
            told = f"its parts ({names}) are for training alone, by their names"
            raise SOURCE.missing(folder, told, "; one of another name is cut into all splits")
        if self._whole and len(self.files) < 2:
            raise SOURCE.missing(folder, f"{self.files[0]} is there without the other .mat file")

    @property
    def _whole(self) -> bool:
        return self.files[0].suffix == ".mat"

    def pictures(self, split: SplitName) -> Pictures:
        """The images of a split, read anew."""
        if not self._whole:
            return _joined([self._block(path, split) for path in self.files])
        train, test = self.files
        if split == "test":
            return _read_mat(test)
        pictures = _read_mat(train)
        kept = len(pictures) - self._validation
        _demand_rest(train, kept, self._validation, 0)
        return pictures.cut(None, kept) if split == "train" else pictures.cut(kept, None)

    def _block(self, path: Path, split: SplitName) -> Pictures:
        """What a part of the data has for a split."""
        arrays = read_npz(path, ["images", "labels"])
        pictures = named_pictures(path, path.stem, arrays["images"], arrays["labels"], axes=4)
        if _trains_alone(path):
            return pictures if split == "train" else pictures.cut(0, 0)
        photo = arrays.get("photo", np.arange(len(pictures)))
        if photo.shape != pictures.labels.shape:
            raise DataError(f"{path}: {len(pictures)} images, but photo of shape {photo.shape}")
        _demand_together(path, photo)
        test = _photo_begins(photo, len(pictures) - self._test)
        validation = _photo_begins(photo, test - self._validation)
        _demand_rest(path, validation, self._validation, self._test)
        start, stop = {
            "train": (0, validation),
            "validation": (validation, test),
            "test": (test, None),
        }[split]
        return pictures.cut(start, stop)


def _found(folder: Path) -> list[Path]:
    """The files in the first place that has some: both of the whole data, or the parts."""
    for place in (folder, folder / "svhn"):
        whole = [place / "train_32x32.mat", place / "test_32x32.mat"]
        files = [path for path in whole if path.is_file()] or sorted(place.glob("svhn*.npz"))
        if files:
            return files
    return []


def _read_mat(path: Path) -> Pictures:
    """The images of one of SVHN's own files, which call the digit 0 ten."""
    from scipy.io import loadmat

    try:
        arrays: dict[str, Any] = loadmat(path, variable_names=["X", "y"])
        pixels, labels = arrays["X"], arrays["y"].reshape(-1) % 10
    except Exception as error:
        # A corrupt file makes scipy raise whatever its bytes lead to.
        raise unreadable(path, f"{type(error).__name__}: {error}") from error
    pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    return named_pictures(path, f"svhn-{path.stem.partition('_')[0]}", pixels, labels, axes=4)


def _trains_alone(path: Path) -> bool:
    """Whether a part has the word train in its name; SVHN's own files have a test set."""
    return path.suffix == ".npz" and "train" in re.split(r"[^a-z]+", path.stem.lower())


def _demand_together(path: Path, photo: Any) -> None:
    """DataError where a photo's images do not follow each other: a cut would part them."""
    begins = np.flatnonzero(np.r_[True, photo[1:] != photo[:-1]])
    photos, runs = np.unique(photo[begins], return_counts=True)
    if (runs > 1).any():
        raise DataError(
            f"{path}: the images of photo {photos[runs > 1][0]} lie apart, and would get into "
            "several splits; sort all its arrays by photo"
        )


def _photo_begins(photo: Any, start: int) -> int:
    """The last index up to `start` at which a photo begins."""
    while 0 < start < len(photo) and photo[start - 1] == photo[start]:
        start -= 1
    return start


def _demand_rest(path: Path, rest: int, validation: int, test: int) -> None:
    if rest <= 0:
        raise DataError(
            f"{path}: nothing is left for training after svhn_validation: {validation}"
            + (f" and svhn_test: {test}" if test else "")
            + "; lower them"
        )


def _joined(parts: list[Pictures]) -> Pictures:
    return Pictures(
        [name for part in parts for name in part.names],
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def _fetch(folder: Path) -> None:
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(folder, split, download=True)
