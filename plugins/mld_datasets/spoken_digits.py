"""The dataset `spoken-digits`: a digit handwritten, spoken, and named by a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from pydantic import Field

from mld_core import DataError, Dataset, Modality, Split, SplitName, hookimpl
from mld_datasets.download import content_digest
from mld_datasets.fsdd import Recordings, read_recordings, recording_files
from mld_datasets.labelled_images import CLASSES
from mld_datasets.mnist import Mnist, MnistConfig
from mld_datasets.pairing import IndexedView, pair_with_resampling, split_rng

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES = 5
"""The first takes of a speaker and digit, 0 to 4, are the data set's own test set."""
VALIDATION_TAKES = 5
"""The last takes, 45 to 49, validate."""


class SpokenDigitsConfig(MnistConfig):
    """Where the data are, and how they are paired.

    The folder holds `MNIST/raw/` with MNIST's four files (plain or .gz), itself or in its
    subfolder `mnist`; and the recordings of the Free Spoken Digit Dataset, as `recordings/*.wav`
    or `fsdd.npz`, itself or in its subfolder `fsdd`.
    """

    pairings: int = Field(
        10, ge=1, le=100, description="rows of training in which each recording is, with new images"
    )
    words: Literal["plain", "varied"] = Field(
        "plain", description="the bare number word, or a phrase of the text modality's examples"
    )


class SpokenDigits(Dataset):
    """MNIST images, recordings of the Free Spoken Digit Dataset, and number words, by label.

    In training each recording is in `pairings` rows, each time with another image; in validation
    and test in one. Takes 0 to 4 are the test set, and the last five validate. Each recording is
    scaled to the same peak: speakers differ 13-fold in loudness.
    """

    kind = "spoken-digits"
    Config = SpokenDigitsConfig
    config: SpokenDigitsConfig
    columns = MappingProxyType({"digit": "image", "speech": "audio", "word": "text"})
    classes = tuple(str(label) for label in range(CLASSES))

    def __init__(
        self, config: SpokenDigitsConfig, modalities: Mapping[str, Modality], seed: int
    ) -> None:
        super().__init__(config, modalities, seed)
        self._mnist = Mnist(config.folder, config.download)
        self._files = recording_files(config.folder)

    @cached_property
    def _recordings(self) -> Recordings:
        return read_recordings(self._files, self.modalities.get("speech"))

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in random order; images and sounds are made when indexed."""
        pictures, recordings = self._mnist.pictures(name), self._recordings
        own = self._takes(name)
        rng = split_rng(self.seed, name)
        pairings = self.config.pairings if name == "train" else 1
        pairs = pair_with_resampling(recordings.labels[own], pictures.labels, pairings, rng)
        pairs = pairs[: self.config.limit(name)]
        spoken, shown = own[pairs[:, 0]], pairs[:, 1]
        labels = recordings.labels[spoken].tolist()
        return Split(
            ids=[
                f"{name}-{row}: {pictures.names[picture]} {recordings.names[recording]}"
                for row, (picture, recording) in enumerate(zip(shown, spoken, strict=True))
            ],
            items={
                "digit": pictures.column(shown),
                "speech": IndexedView(recordings.sounds, spoken),
                "word": self._words(labels, name, rng),
            },
            labels=labels,
        )

    def _takes(self, name: SplitName) -> Int[np.ndarray, " recording"]:
        """The recordings of a split."""
        takes = self._recordings.takes
        last = takes.max() + 1 - VALIDATION_TAKES
        own = {
            "train": (takes >= TEST_TAKES) & (takes < last),
            "validation": (takes >= TEST_TAKES) & (takes >= last),
            "test": takes < TEST_TAKES,
        }[name]
        if not own.any():
            raise DataError(
                f"{self.config.folder}: no recording is for {name}: takes 0 to {TEST_TAKES - 1} "
                f"are for the test, the last {VALIDATION_TAKES} for validation, the others for "
                f"training, and here are takes {takes.min()} to {takes.max()}"
            )
        return np.flatnonzero(own)

    def _words(
        self, labels: Sequence[int], name: SplitName, rng: np.random.Generator
    ) -> Sequence[Any]:
        text = self.modalities.get("word")
        if self.config.words == "plain" or text is None:
            return [WORDS[label] for label in labels]
        return text.examples(labels, name, rng)

    def fingerprint(self) -> str:
        """Also of the files' contents."""
        files = [*self._mnist.files, *self._files]
        return content_digest(super().fingerprint(), files)


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The dataset of this module, for mld."""
    return [SpokenDigits]
