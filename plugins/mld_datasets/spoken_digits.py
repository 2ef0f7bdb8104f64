"""The dataset `spoken-digits`: a handwritten digit, the spoken digit, and its word."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from pydantic import Field

from mld_core import DataError, Dataset, Split, SplitName, hookimpl
from mld_datasets.fsdd import Recordings, read_recordings, recording_files
from mld_datasets.item_source import LazyItems
from mld_datasets.mnist import MnistConfig, MnistDataset
from mld_datasets.pairing import pair_with_resampling, split_rng

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES = 5
"""Takes 0 to 4 of each speaker and digit are the data set's test set."""
VALIDATION_TAKES = 5
"""The last five takes, 45 to 49 of the published data, are the validation split."""


class SpokenDigitsConfig(MnistConfig):
    """Where the data are, and how they are paired.

    The folder has `MNIST/raw/` with MNIST's four files (plain or .gz), itself or in its
    subfolder `mnist`; and the recordings of the Free Spoken Digit Dataset, as `recordings/*.wav`
    or `fsdd.npz`, itself or in its subfolder `fsdd`.
    """

    pairings: int = Field(
        10, ge=1, le=100, description="training rows of each recording, each with another image"
    )
    words: Literal["plain", "varied"] = Field(
        "plain", description="the number word, or a phrase from the text modality's examples"
    )


class SpokenDigits(MnistDataset):
    """MNIST images, recordings of the Free Spoken Digit Dataset, and number words, by label.

    In training each recording is in `pairings` rows, each time with another image; in validation
    and test it is in one. Takes 0 to 4 are the test split, and the last five the validation
    split. Each recording is scaled to the same peak, since speakers differ 13-fold in loudness.
    """

    kind = "spoken-digits"
    Config = SpokenDigitsConfig
    config: SpokenDigitsConfig
    columns = MappingProxyType({"digit": "image", "speech": "audio", "word": "text"})

    def _find_files(self) -> list[Path]:
        return recording_files(self.config.folder)

    @cached_property
    def _recordings(self) -> Recordings:
        return read_recordings(self._files, self.modalities.get("speech"))

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in random order; images and sounds are made when indexed."""
        images, recordings = self._mnist.images(name), self._recordings
        candidates = self._recordings_of(name)
        rng = split_rng(self.seed, name)
        pairings = self.config.pairings if name == "train" else 1
        pairs = pair_with_resampling(recordings.labels[candidates], images.labels, pairings, rng)
        pairs = pairs[: self.config.limit(name)]
        spoken, shown = candidates[pairs[:, 0]], pairs[:, 1]
        labels = recordings.labels[spoken].tolist()
        return Split(
            ids=[
                f"{name}-{row}: {images.names[image]} {recordings.names[recording]}"
                for row, (image, recording) in enumerate(zip(shown, spoken, strict=True))
            ],
            items={
                "digit": images.column(shown),
                "speech": LazyItems(recordings.read, spoken),
                "word": self._words(labels, name, rng),
            },
            labels=labels,
        )

    def _recordings_of(self, split: SplitName) -> Int[np.ndarray, " recording"]:
        """The indices of a split's recordings."""
        takes = self._recordings.takes
        first_validation = takes.max() + 1 - VALIDATION_TAKES
        is_in_split = {
            "train": (takes >= TEST_TAKES) & (takes < first_validation),
            "validation": (takes >= TEST_TAKES) & (takes >= first_validation),
            "test": takes < TEST_TAKES,
        }[split]
        if not is_in_split.any():
            raise DataError(
                f"{self.config.folder}: no recording for {split}: takes 0 to {TEST_TAKES - 1} are "
                f"for test, the last {VALIDATION_TAKES} for validation and the others for "
                f"training, but the takes here are {takes.min()} to {takes.max()}"
            )
        return np.flatnonzero(is_in_split)

    def _words(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> Sequence[Any]:
        text = self.modalities.get("word")
        if self.config.words == "plain" or text is None:
            return [WORDS[label] for label in labels]
        return text.examples(labels, split, rng)


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [SpokenDigits]
