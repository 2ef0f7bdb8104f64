"""SVHN's cropped digits in a folder of the user's: torchvision's files, or parts as .npz."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from mld_core import DataError, SplitName, describe_exception
from mld_datasets.download import Source, read_npz, unreadable_error
from mld_datasets.labelled_images import LabelledImages, make_labelled_images

SOURCE = Source(
    name="SVHN",
    address="http://ufldl.stanford.edu/housenumbers",
    layout="train_32x32.mat and test_32x32.mat, or parts of the data as svhn*.npz with the arrays "
    "images (n, 32, 32, 3), labels and, if known, photo; in the folder or in its subfolder svhn",
)


class Svhn:
    """The images of SVHN by split.

    Of the complete data (.mat), validation is the end of the training set and the test split is
    the test set. Of parts (.npz), one with the word "train" in its file name is in the training
    split only; every other is cut into contiguous blocks for training, validation and test, in
    that order. If `photo` numbers the street photo of each image, no photo is cut: its images show
    the same house.

    Args:
        folder: of the files.
        download: whether to download them if there are none.
        validation: approximate number of images of the validation split.
        test: approximate number of images of the test split of each part.
    """

    def __init__(self, folder: Path, download: bool, validation: int, test: int) -> None:
        self._validation, self._test = validation, test
        self.files = _find_files(folder)
        if not self.files and download:
            SOURCE.download(folder, folder / "svhn", _fetch)
            self.files = _find_files(folder)
        if not self.files:
            raise SOURCE.missing_error(folder, advice=", or set download: true")
        if all(map(_is_training_only, self.files)):
            names = ", ".join(path.name for path in self.files)
            problem = f"its parts ({names}) are for training only, by their names"
            advice = "; a part without the word train in its name is cut into all splits"
            raise SOURCE.missing_error(folder, problem, advice)
        self._is_complete = self.files[0].suffix == ".mat"
        if self._is_complete and len(self.files) < 2:
            problem = f"{self.files[0]} is there without the other .mat file"
            raise SOURCE.missing_error(folder, problem)

    def images(self, split: SplitName) -> LabelledImages:
        """The images of a split, read from disk at every call."""
        if not self._is_complete:
            return _concatenate([self._block(path, split) for path in self.files])
        train_file, test_file = self.files
        if split == "test":
            return _read_mat(test_file)
        images = _read_mat(train_file)
        train = len(images) - self._validation
        _check_training_left(train_file, train, self._validation, 0)
        return images.block(None, train) if split == "train" else images.block(train, None)

    def _block(self, path: Path, split: SplitName) -> LabelledImages:
        """The images of a part of the data that are in a split."""
        arrays = read_npz(path, ["images", "labels"])
        pixels, labels = arrays["images"], arrays["labels"]
        images = make_labelled_images(path, path.stem, pixels, labels, colour=True)
        if _is_training_only(path):
            return images if split == "train" else images.block(0, 0)
        photo = arrays.get("photo", np.arange(len(images)))
        if photo.shape != images.labels.shape:
            raise DataError(f"{path}: {len(images)} images, but photo of shape {photo.shape}")
        _check_photos_contiguous(path, photo)
        test = _photo_start(photo, len(images) - self._test)
        validation = _photo_start(photo, test - self._validation)
        _check_training_left(path, validation, self._validation, self._test)
        blocks = {"train": (0, validation), "validation": (validation, test), "test": (test, None)}
        return images.block(*blocks[split])


def _find_files(folder: Path) -> list[Path]:
    """The .mat files, or else the parts, in the first location that has some."""
    for location in (folder, folder / "svhn"):
        complete = [location / "train_32x32.mat", location / "test_32x32.mat"]
        existing = [path for path in complete if path.is_file()]
        if files := existing or sorted(location.glob("svhn*.npz")):
            return files
    return []


def _read_mat(path: Path) -> LabelledImages:
    """The images of a .mat file, in which the digit 0 has the label 10."""
    from scipy.io import loadmat

    try:
        arrays: dict[str, Any] = loadmat(path, variable_names=["X", "y"])
        pixels, labels = arrays["X"], arrays["y"].reshape(-1) % 10
    except Exception as error:
        # Given a corrupt file, scipy may raise anything.
        raise unreadable_error(path, describe_exception(error)) from error
    pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    prefix = f"svhn-{path.stem.partition('_')[0]}"
    return make_labelled_images(path, prefix, pixels, labels, colour=True)


def _is_training_only(path: Path) -> bool:
    """Whether a file is a part of the data with the word "train" in its name."""
    return path.suffix == ".npz" and "train" in re.split(r"[^a-z]+", path.stem.lower())


def _check_photos_contiguous(path: Path, photo: Shaped[np.ndarray, " image"]) -> None:
    """DataError if the images of a photo are not consecutive, so that a cut would divide them."""
    starts = np.flatnonzero(np.r_[True, photo[1:] != photo[:-1]])
    photos, runs = np.unique(photo[starts], return_counts=True)
    if (runs > 1).any():
        raise DataError(
            f"{path}: the images of photo {photos[runs > 1][0]} are not consecutive and would be "
            "divided among splits; sort all arrays by photo"
        )


def _photo_start(photo: Shaped[np.ndarray, " image"], index: int) -> int:
    """The last index up to `index` at which a photo starts."""
    while 0 < index < len(photo) and photo[index - 1] == photo[index]:
        index -= 1
    return index


def _check_training_left(path: Path, train: int, validation: int, test: int) -> None:
    if train <= 0:
        raise DataError(
            f"{path}: nothing is left for training after svhn_validation: {validation}"
            + (f" and svhn_test: {test}" if test else "")
            + "; lower them"
        )


def _concatenate(parts: list[LabelledImages]) -> LabelledImages:
    return LabelledImages(
        [name for part in parts for name in part.names],
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def _fetch(folder: Path) -> None:
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(folder, split, download=True)
