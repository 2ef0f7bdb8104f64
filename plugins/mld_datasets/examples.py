"""The dataset `examples`: the labelled example data that every modality brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
from pydantic import Field, PositiveInt

from mld_core import Dataset, DatasetConfig, Modality, PluginError, Split, SplitName, hookimpl

CLASSES = 10


class ExamplesConfig(DatasetConfig):
    """How many rows each split has."""

    train: PositiveInt = Field(4000, description="rows of the training split")
    validation: PositiveInt = Field(500, description="rows of the validation split")
    test: PositiveInt = Field(500, description="rows of the test split")


class Examples(Dataset):
    """Rows in which each modality shows the same label 0..9 in its own way.

    Labels are balanced and shuffled. Each column is drawn from the seed, the split and its own
    name, so that adding a modality changes no other column.
    """

    kind = "examples"
    Config = ExamplesConfig
    config: ExamplesConfig

    @property
    def columns(self) -> Mapping[str, str]:
        """The spec's modalities themselves."""
        return {name: modality.kind for name, modality in self.modalities.items()}

    @property
    def classes(self) -> Sequence[str]:
        """The ten labels."""
        return [str(label) for label in range(CLASSES)]

    def split(self, name: SplitName) -> Split:
        """The rows of a split; a column is drawn when first indexed."""
        rows = {
            "train": self.config.train,
            "validation": self.config.validation,
            "test": self.config.test,
        }[name]
        labels = self._rng(name, "").permutation(np.arange(rows) % CLASSES).tolist()
        return Split(
            ids=[f"{name}-{row}" for row in range(rows)],
            items={
                own: _Column(modality, labels, name, self._rng(name, own))
                for own, modality in self.modalities.items()
            },
            labels=labels,
        )

    def _rng(self, split: SplitName, column: str) -> np.random.Generator:
        """The generator of one column of one split, or of its labels: the column ""."""
        return np.random.default_rng([self.seed, crc32(split.encode()), crc32(column.encode())])


class _Column(Sequence[Any]):
    """One modality's examples for the labels of a split."""

    def __init__(
        self, modality: Modality, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> None:
        self._modality = modality
        self._labels = labels
        self._split = split
        self._rng = rng

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: Any) -> Any:
        return self._items[row]

    @cached_property
    def _items(self) -> list[Any]:
        call = f"kind {self._modality.kind!r}: examples for the {self._split} split"
        try:
            items = self._modality.examples(self._labels, self._split, self._rng)
        except Exception as error:
            raise PluginError(f"{call} failed: {type(error).__name__}: {error}") from error
        if len(items) != len(self._labels):
            raise PluginError(f"{call} are {len(items)}, but there are {len(self._labels)} labels")
        return items


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The dataset of this module, for mld."""
    return [Examples]
