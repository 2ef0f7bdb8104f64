"""MNIST in a folder of the user's, as torchvision lays it out."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from mld_core import SpecPath, SplitName
from mld_datasets.download import Source, read_idx, resolve_gz
from mld_datasets.labelled_images import Pictures, named_pictures
from mld_datasets.pairing import LimitedConfig

SOURCE = Source(
    name="MNIST",
    address="http://yann.lecun.com/exdb/mnist",
    layout="MNIST/raw/ with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or .gz, in the folder or in "
    "its subfolder mnist",
)
FILES = tuple(
    f"{part}-{told}-ubyte" for part in ("train", "t10k") for told in ("images-idx3", "labels-idx1")
)
HELD = 12
"""One training image in so many validates: the last 5,000 of 60,000."""


class MnistConfig(LimitedConfig):
    """Where MNIST is, and whatever a dataset pairs it with."""

    folder: SpecPath = Field(description="holds the data, or receives their download")
    download: bool = Field(
        False, description="fetch what the folder lacks, where torchvision can: MNIST and SVHN"
    )


class Mnist:
    """The images of MNIST by split.

    The test split is the test set (t10k); validation is the last twelfth of the training set.
    """

    def __init__(self, folder: Path, download: bool) -> None:
        raw = self._raw(folder)
        if download and (raw is None or _lacking(raw)):
            SOURCE.download(folder, raw.parents[1] if raw else folder / "mnist", _fetch)
            raw = self._raw(folder)
        advice = "" if download else ", or set download: true"
        if raw is None:
            raise SOURCE.missing(folder, advice=advice)
        if absent := _lacking(raw):
            raise SOURCE.missing(folder, f"{raw} lacks {', '.join(absent)}", advice)
        self._paths = {name: resolve_gz(raw / name) for name in FILES}

    @property
    def files(self) -> list[Path]:
        """All that is read."""
        return list(self._paths.values())

    def pictures(self, split: SplitName) -> Pictures:
        """The images of a split, read anew."""
        if split == "test":
            return self._read("t10k")
        train = self._read("train")
        kept = len(train) - len(train) // HELD
        return train.cut(None, kept) if split == "train" else train.cut(kept, None)

    def _read(self, part: str) -> Pictures:
        images = self._paths[f"{part}-images-idx3-ubyte"]
        labels = read_idx(self._paths[f"{part}-labels-idx1-ubyte"])
        return named_pictures(images, f"mnist-{part}", read_idx(images), labels, axes=3)

    @staticmethod
    def _raw(folder: Path) -> Path | None:
        """The folder of the files; None where there is none."""
        places = [folder / "MNIST" / "raw", folder / "mnist" / "MNIST" / "raw"]
        return next((place for place in places if place.is_dir()), None)


def _lacking(raw: Path) -> list[str]:
    """Which of the four files are not there."""
    return [name for name in FILES if not resolve_gz(raw / name).is_file()]


def _fetch(folder: Path) -> None:
    from torchvision.datasets import MNIST

    MNIST(folder, download=True)
