"""Rows made of data that share a label but were never recorded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from jaxtyping import Int, UInt8
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


@dataclass(frozen=True)
class IndexedView(Sequence[Any]):
    """Some entries of a sequence, in any order and number, looked up when indexed."""

    entries: Sequence[Any]
    chosen: Int[np.ndarray, " row"]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, row: Any) -> Any:
        return self.entries[self.chosen[row]]


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


def pair_with_resampling(
    few: Int[np.ndarray, " datum"],
    many: Int[np.ndarray, " partner"] | UInt8[np.ndarray, " partner"],
    pairings: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "row 2"]:
    """Rows in random order: each datum `pairings` times, with partners of its label.

    No partner comes twice before all of its label have come, and labels without any are left out.

    Args:
        few: the label of each datum.
        many: the label of each partner.
        pairings: rows of each datum.
        rng: draws partners and order.
    """
    rows = [np.empty((0, 2), dtype=int)]
    for label in sorted(set(few.tolist()) & set(many.tolist())):
        own = np.tile(np.flatnonzero(few == label), pairings)
        partners = rng.permutation(np.flatnonzero(many == label))
        rows.append(np.stack([own, np.resize(partners, len(own))], axis=1))
    return rng.permutation(np.concatenate(rows))


def draw_distinct(
    labels: UInt8[np.ndarray, " datum"], columns: int, rng: np.random.Generator
) -> Int[np.ndarray, "row column"]:
    """Rows in random order, each with other data of one label in every column.

    Each datum is in each column once; labels with fewer data than columns are left out.
    """
    rows = [np.empty((0, columns), dtype=int)]
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        if len(own) >= columns:
            # A circle turned by different amounts never meets itself.
            turns = rng.choice(len(own), columns, replace=False)
            rows.append(np.stack([np.roll(own, turn) for turn in turns], axis=1))
    return rng.permutation(np.concatenate(rows))
