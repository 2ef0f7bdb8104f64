"""The dataset `examples`: the labelled example data that every modality provides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
from pydantic import Field, PositiveInt

from mld_core import (
    Dataset,
    DatasetConfig,
    Modality,
    PluginError,
    Split,
    SplitName,
    hookimpl,
    plugin_call,
)

CLASSES = 10


class ExamplesConfig(DatasetConfig):
    """The number of rows of each split."""

    train: PositiveInt = Field(4000, description="rows of the training split")
    validation: PositiveInt = Field(500, description="rows of the validation split")
    test: PositiveInt = Field(500, description="rows of the test split")


class Examples(Dataset):
    """Rows in which every modality shows the same label 0..9.

    Labels are balanced and shuffled. Each column is drawn from the seed, the split and the
    modality's name, so that adding a modality changes no other column.
    """

    kind = "examples"
    Config = ExamplesConfig
    config: ExamplesConfig

    @property
    def columns(self) -> Mapping[str, str]:
        """The spec's modalities."""
        return {name: modality.kind for name, modality in self.modalities.items()}

    @property
    def classes(self) -> Sequence[str]:
        """The ten labels."""
        return [str(label) for label in range(CLASSES)]

    def split(self, name: SplitName) -> Split:
        """The rows of a split; a column is drawn when first indexed."""
        return self._draw(name, getattr(self.config, name))

    def peek(self, name: SplitName, rows: int) -> Split:
        """Other rows than those of the split, since a column is drawn as a whole."""
        return self._draw(name, min(rows, getattr(self.config, name)))

    def _draw(self, name: SplitName, rows: int) -> Split:
        labels = self._rng(name, "").permutation(np.arange(rows) % CLASSES).tolist()
        return Split(
            ids=[f"{name}-{row}" for row in range(rows)],
            items={
                column: _Column(modality, labels, name, self._rng(name, column))
                for column, modality in self.modalities.items()
            },
            labels=labels,
        )

    def _rng(self, split: SplitName, column: str) -> np.random.Generator:
        """The generator of one column of one split; of its labels if the column is ""."""
        return np.random.default_rng([self.seed, crc32(split.encode()), crc32(column.encode())])


@dataclass(frozen=True)
class _Column(Sequence[Any]):
    modality: Modality
    labels: Sequence[int]
    split: SplitName
    rng: np.random.Generator

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: Any) -> Any:
        return self._items[row]

    @cached_property
    def _items(self) -> Sequence[Any]:
        call = f"kind {self.modality.kind!r}: examples for the {self.split} split"
        with plugin_call(call):
            items = self.modality.examples(self.labels, self.split, self.rng)
        if len(items) != len(self.labels):
            raise PluginError(f"{call} returned {len(items)} items for {len(self.labels)} labels")
        return items


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [Examples]
