"""MNIST in a folder of the user's, in torchvision's layout."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from mld_core import Dataset, DatasetConfig, Modality, SpecPath, SplitName, content_digest
from mld_datasets.download import Source, read_idx, resolve_gz
from mld_datasets.labelled_images import CLASSES, LabelledImages, make_labelled_images
from mld_datasets.pairing import LimitedConfig

SOURCE = Source(
    name="MNIST",
    address="http://yann.lecun.com/exdb/mnist",
    layout="MNIST/raw/ with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or .gz, in the folder or in "
    "its subfolder mnist",
)
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
VALIDATION_DIVISOR = 12
"""The last 1/12 of the training set, 5,000 of 60,000 images, is the validation split."""


class MnistConfig(LimitedConfig):
    """Where MNIST is, and the other data of a dataset that pairs it with some."""

    folder: SpecPath = Field(description="folder of the data, or where to download them")
    download: bool = Field(
        False, description="download missing files with torchvision (MNIST and SVHN only)"
    )


class Mnist:
    """The images of MNIST by split.

    The test split is the test set (t10k); validation is the last twelfth of the training set.
    """

    def __init__(self, folder: Path, download: bool) -> None:
        raw = _find_raw(folder)
        if download and (raw is None or _missing_files(raw)):
            SOURCE.download(folder, raw.parents[1] if raw else folder / "mnist", _fetch)
            raw = _find_raw(folder)
        advice = "" if download else ", or set download: true"
        if raw is None:
            raise SOURCE.missing_error(folder, advice=advice)
        if missing := _missing_files(raw):
            raise SOURCE.missing_error(folder, f"{raw} lacks {', '.join(missing)}", advice)
        self._paths = {name: resolve_gz(raw / name) for name in FILES}

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        return list(self._paths.values())

    def images(self, split: SplitName) -> LabelledImages:
        """The images of a split, read from disk at every call."""
        if split == "test":
            return self._read("t10k")
        images = self._read("train")
        train = len(images) - len(images) // VALIDATION_DIVISOR
        return images.block(None, train) if split == "train" else images.block(train, None)

    def _read(self, part: str) -> LabelledImages:
        path = self._paths[f"{part}-images-idx3-ubyte"]
        labels = read_idx(self._paths[f"{part}-labels-idx1-ubyte"])
        return make_labelled_images(path, f"mnist-{part}", read_idx(path), labels, colour=False)


class MnistDataset(Dataset):
    """A dataset that pairs MNIST's images with other data by their label."""

    config: MnistConfig
    classes = tuple(str(label) for label in range(CLASSES))

    def __init__(
        self, config: DatasetConfig, modalities: Mapping[str, Modality], seed: int
    ) -> None:
        super().__init__(config, modalities, seed)
        self._mnist = Mnist(self.config.folder, self.config.download)
        self._files = self._find_files()

    @abstractmethod
    def _find_files(self) -> list[Path]:
        """All files besides MNIST's. DataError if there are none."""

    def fingerprint(self) -> str:
        """Includes the contents of the files."""
        return content_digest(super().fingerprint(), [*self._mnist.files, *self._files])


def _find_raw(folder: Path) -> Path | None:
    """The folder of the four files; None if there is none."""
    for raw in (folder / "MNIST" / "raw", folder / "mnist" / "MNIST" / "raw"):
        if raw.is_dir():
            return raw
    return None


def _missing_files(raw: Path) -> list[str]:
    return [name for name in FILES if not resolve_gz(raw / name).is_file()]


def _fetch(folder: Path) -> None:
    from torchvision.datasets import MNIST

    MNIST(folder, download=True)
