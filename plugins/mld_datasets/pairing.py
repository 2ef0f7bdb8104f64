"""Rows made of data that share a label but were not recorded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from jaxtyping import Int, UInt8
from pydantic import Field, PositiveInt

from mld_core import DatasetConfig, SplitName


class LimitedConfig(DatasetConfig):
    """The maximum number of rows of each split."""

    train: PositiveInt | None = Field(None, description="maximum training rows; default: all")
    validation: PositiveInt | None = Field(
        None, description="maximum validation rows; default: all"
    )
    test: PositiveInt | None = Field(None, description="maximum test rows; default: all")

    def limit(self, split: SplitName) -> int | None:
        """The maximum number of rows of a split; None without a limit."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


def split_rng(seed: int, split: SplitName) -> np.random.Generator:
    """The generator of one split's draws."""
    return np.random.default_rng([seed, crc32(split.encode())])


def pair_by_label(
    labels: Sequence[Any], pairings: int, rng: np.random.Generator
) -> Int[np.ndarray, "row column"]:
    """Rows in random order, each with an index into every column, all of one label.

    `labels` has the labels of each column's data. Of each label, every column contributes its first
    n data, where n is the number in the smallest column. They are paired at random `pairings`
    times, so each datum is in that many rows (Bounoua et al. 2023, MNIST-SVHN).
    """
    rows = [np.empty((0, len(labels)), dtype=int)]
    for label in sorted(set.intersection(*(set(column.tolist()) for column in labels))):
        members = [np.flatnonzero(column == label) for column in labels]
        count = min(map(len, members))
        for _ in range(pairings):
            rows.append(np.stack([rng.permutation(indices[:count]) for indices in members], axis=1))
    return rng.permutation(np.concatenate(rows))


def pair_with_resampling(
    labels: Int[np.ndarray, " datum"],
    partner_labels: Int[np.ndarray, " partner"] | UInt8[np.ndarray, " partner"],
    pairings: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "row 2"]:
    """Rows in random order: each datum `pairings` times, with partners of its label.

    No partner is used twice before all partners of its label have been used. Data of a label
    without partners are left out.
    """
    rows = [np.empty((0, 2), dtype=int)]
    for label in sorted(set(labels.tolist()) & set(partner_labels.tolist())):
        data = np.tile(np.flatnonzero(labels == label), pairings)
        partners = rng.permutation(np.flatnonzero(partner_labels == label))
        rows.append(np.stack([data, np.resize(partners, len(data))], axis=1))
    return rng.permutation(np.concatenate(rows))


def draw_distinct(
    labels: UInt8[np.ndarray, " datum"], columns: int, rng: np.random.Generator
) -> Int[np.ndarray, "row column"]:
    """Rows in random order, each with different data of one label in every column.

    Each datum is in each column once. Labels with fewer data than columns are left out.
    """
    rows = [np.empty((0, columns), dtype=int)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) >= columns:
            # Cyclic shifts of a permutation by different amounts agree at no position.
            shifts = rng.choice(len(members), columns, replace=False)
            rows.append(np.stack([np.roll(members, shift) for shift in shifts], axis=1))
    return rng.permutation(np.concatenate(rows))
