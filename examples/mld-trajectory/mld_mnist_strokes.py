"""The dataset `mnist_strokes`: MNIST digits as pictures and, derived from them, as pen strokes."""

from __future__ import annotations

import gzip
import hashlib
from types import MappingProxyType

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from mld_core import DataError, Dataset, DatasetConfig, SpecPath, Split, hookimpl

MLD_API = 1
SOURCES = {"train": "train", "test": "t10k"}


class MnistStrokesConfig(DatasetConfig):
    """Where the data are, and how many rows each split has."""

    folder: SpecPath = Field(
        description="holds mnist/MNIST/raw/*-images-idx3-ubyte.gz and "
        "mnist_strokes/mnist_strokes.npz"
    )
    train: PositiveInt = Field(20000, le=50000, description="rows of the training split")
    validation: PositiveInt = Field(500, le=10000, description="the last training rows")
    test: PositiveInt = Field(1000, le=10000, description="rows of the test split")


class MnistStrokes(Dataset):
    """MNIST: each digit as a picture and as the pen strokes thinned from it."""

    kind = "mnist_strokes"
    Config = MnistStrokesConfig
    columns = MappingProxyType({"digit": "image", "strokes": "trajectory"})
    classes = tuple("0123456789")

    def split(self, name):
        """Rows of the test set, or the first and the last of the training set."""
        source = "test" if name == "test" else "train"
        chosen = slice(-self.config.validation, None)
        if name != "validation":
            chosen = slice(getattr(self.config, name))
        try:
            with gzip.open(self._images(source)) as file:
                pictures = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
            with np.load(self._strokes()) as file:
                points, offsets = file[f"{source}_points"], file[f"{source}_offsets"]
                labels = file[f"{source}_label"]
        except OSError as error:
            raise DataError(f"{self.config.folder}: {error}") from error
        rows = range(len(labels))[chosen]
        return Split(
            ids=[f"{source}-{row}" for row in rows],
            items={
                "digit": [Image.fromarray(pictures[row]) for row in rows],
                "strokes": [_raw(points[offsets[row] : offsets[row + 1]]) for row in rows],
            },
            labels=labels[chosen].tolist(),
        )

    def fingerprint(self):
        """Also of the files' sizes and times."""
        files = [*map(self._images, SOURCES), self._strokes()]
        stamps = [(file.stat().st_size, file.stat().st_mtime) for file in files if file.exists()]
        return hashlib.sha256(f"{super().fingerprint()} {stamps}".encode()).hexdigest()

    def _images(self, source):
        name = f"{SOURCES[source]}-images-idx3-ubyte.gz"
        return self.config.folder / "mnist" / "MNIST" / "raw" / name

    def _strokes(self):
        return self.config.folder / "mnist_strokes" / "mnist_strokes.npz"


def _raw(steps):
    """x, y and pen from rows of (dx, dy, end of stroke, end of digit)."""
    xy = np.cumsum(steps[:, :2].astype(float), axis=0).clip(0, 28)
    lifted = np.concatenate([[1], steps[:-1, 2]])
    return np.hstack([xy, 1.0 - lifted[:, None]])


@hookimpl
def register_datasets():
    return [MnistStrokes]
