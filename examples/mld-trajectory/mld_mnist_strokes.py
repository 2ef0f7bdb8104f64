"""The dataset `mnist_strokes`: MNIST digits as images and as pen strokes derived from them."""

from __future__ import annotations

import gzip
from types import MappingProxyType

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from mld_core import (
    DataError,
    Dataset,
    DatasetConfig,
    SpecPath,
    Split,
    content_digest,
    hookimpl,
)

MLD_API = 1
MNIST_PREFIX = {"train": "train", "test": "t10k"}


class MnistStrokesConfig(DatasetConfig):
    """Settings of the dataset `mnist_strokes`."""

    folder: SpecPath = Field(
        description="folder with mnist/MNIST/raw/*-images-idx3-ubyte.gz and "
        "mnist_strokes/mnist_strokes.npz"
    )
    train: PositiveInt = Field(
        20000, le=50000, description="rows of the training split: the first of MNIST's training set"
    )
    validation: PositiveInt = Field(
        500, le=10000, description="rows of the validation split: the last of MNIST's training set"
    )
    test: PositiveInt = Field(
        1000, le=10000, description="rows of the test split: the first of MNIST's test set"
    )


class MnistStrokes(Dataset):
    """MNIST: each digit as an image and as pen strokes, obtained by thinning the image."""

    kind = "mnist_strokes"
    Config = MnistStrokesConfig
    columns = MappingProxyType({"digit": "image", "strokes": "trajectory"})
    classes = tuple("0123456789")

    def split(self, name):
        """The first rows of the training or the test set; for validation the last of the former."""
        source = "test" if name == "test" else "train"
        if name == "validation":
            selection = slice(-self.config.validation, None)
        else:
            selection = slice(getattr(self.config, name))
        try:
            with gzip.open(self._images_path(source)) as file:
                images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
            with np.load(self._strokes_path()) as file:
                points, offsets = file[f"{source}_points"], file[f"{source}_offsets"]
                labels = file[f"{source}_label"]
        except OSError as error:
            raise DataError(f"{self.config.folder}: {error}") from error
        rows = range(len(labels))[selection]
        return Split(
            ids=[f"{source}-{row}" for row in rows],
            items={
                "digit": [Image.fromarray(images[row]) for row in rows],
                "strokes": [_to_raw(points[offsets[row] : offsets[row + 1]]) for row in rows],
            },
            labels=labels[selection].tolist(),
        )

    def fingerprint(self):
        """A digest of the config and of the files."""
        paths = [*map(self._images_path, MNIST_PREFIX), self._strokes_path()]
        return content_digest(super().fingerprint(), [path for path in paths if path.exists()])

    def _images_path(self, source):
        name = f"{MNIST_PREFIX[source]}-images-idx3-ubyte.gz"
        return self.config.folder / "mnist" / "MNIST" / "raw" / name

    def _strokes_path(self):
        return self.config.folder / "mnist_strokes" / "mnist_strokes.npz"


def _to_raw(steps):
    """Rows of (x, y, pen) from rows of (dx, dy, end of stroke, end of digit)."""
    xy = np.cumsum(steps[:, :2].astype(float), axis=0).clip(0, 28)
    lifted = np.concatenate([[1], steps[:-1, 2]])
    return np.hstack([xy, 1.0 - lifted[:, None]])


@hookimpl
def register_datasets():
    return [MnistStrokes]
