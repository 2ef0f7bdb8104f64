"""The dataset `mnist-svhn`: handwritten digits and house numbers that show the same digit."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from pydantic import Field, PositiveInt

from mld_core import Dataset, Split, SplitName, hookimpl
from mld_datasets.mnist import MnistConfig, MnistDataset
from mld_datasets.pairing import pair_by_label, split_rng
from mld_datasets.svhn import Svhn


class MnistSvhnConfig(MnistConfig):
    """Where the images are, and how they are paired.

    The folder has `MNIST/raw/` with MNIST's four files (plain or .gz), itself or in its
    subfolder `mnist`; and SVHN, itself or in its subfolder `svhn`: `train_32x32.mat` and
    `test_32x32.mat`, or parts of it as `svhn*.npz` with the arrays images, labels and photo.
    """

    pairings: int = Field(
        5, ge=1, le=100, description="training rows of each image; 20 in the paper"
    )
    svhn_validation: PositiveInt = Field(
        500, description="SVHN images for validation: those before the test images, or the last"
    )
    svhn_test: PositiveInt = Field(
        1000, description="last SVHN images of an .npz, for test; .mat files have a test set"
    )


class MnistSvhn(MnistDataset):
    """MNIST and SVHN, paired at random by label.

    Of each label, the first n images of both sets are used, where n is the number in the smaller
    one. Each is in `pairings` rows in training, but in one row in validation and test, so that
    held-out rows are independent. Splits share no image; see `Mnist` and `Svhn`.
    """

    kind = "mnist-svhn"
    Config = MnistSvhnConfig
    config: MnistSvhnConfig
    columns = MappingProxyType({"mnist": "image", "svhn": "image"})

    @cached_property
    def _svhn(self) -> Svhn:
        config = self.config
        return Svhn(config.folder, config.download, config.svhn_validation, config.svhn_test)

    def _find_files(self) -> list[Path]:
        return self._svhn.files

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in random order; images are made when indexed."""
        mnist, svhn = self._mnist.images(name), self._svhn.images(name)
        pairings = self.config.pairings if name == "train" else 1
        pairs = pair_by_label([mnist.labels, svhn.labels], pairings, split_rng(self.seed, name))
        pairs = pairs[: self.config.limit(name)]
        return Split(
            ids=[
                f"{name}-{row}: {mnist.names[mnist_index]} {svhn.names[svhn_index]}"
                for row, (mnist_index, svhn_index) in enumerate(pairs.tolist())
            ],
            items={"mnist": mnist.column(pairs[:, 0]), "svhn": svhn.column(pairs[:, 1])},
            labels=mnist.labels[pairs[:, 0]].tolist(),
        )


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [MnistSvhn]
