"""Rows made of data that share a label but were never recorded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from jaxtyping import Int
from pydantic import Field, PositiveInt

from mld_core import DatasetConfig, SplitName


class LimitedConfig(DatasetConfig):
    """How many rows each split has at most."""

    train: PositiveInt | None = Field(None, description="rows of training at most; else all")
    validation: PositiveInt | None = Field(None, description="of validation at most; else all")
    test: PositiveInt | None = Field(None, description="rows of the test at most; else all")

    def limit(self, split: SplitName) -> int | None:
        """The most rows that a split may have; None without a limit."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


def split_rng(seed: int, split: SplitName) -> np.random.Generator:
    """The generator of one split's draws."""
    return np.random.default_rng([seed, crc32(split.encode())])


def pair_by_label(
    labels: Sequence[Any], pairings: int, rng: np.random.Generator
) -> Int[np.ndarray, "row column"]:
    """Rows in random order, each with an index into every column, all of one label.

    Each label has as many data as the column with the fewest: the first ones. They are paired at
    random `pairings` times over, so each is in that many rows (Bounoua et al. 2023, MNIST-SVHN).

    Args:
        labels: for each column, the label of each of its data.
        pairings: how many times.
        rng: draws pairs and order.
    """
    rows = [np.empty((0, len(labels)), dtype=int)]
    for label in sorted(set.intersection(*(set(own.tolist()) for own in labels))):
        members = [np.flatnonzero(own == label) for own in labels]
        fewest = min(map(len, members))
        rows += [
            np.stack([rng.permutation(own[:fewest]) for own in members], axis=1)
            for _ in range(pairings)
        ]
    return rng.permutation(np.concatenate(rows))
