"""Cells that an experiment leaves out of its training, as if they had never been recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mld.config.plugin_sections import MissingSpec
from mld.runtime.seeds import derive
from mld_core import DataError, Dataset, Split, SplitName


class DatasetWithMissingCells(Dataset):
    """Another dataset with cells of its training and validation rows left out.

    Test rows stay whole, so that runs with different rates are judged on the same rows; but the
    classifiers that judge learn from the cells left in, too. A modality's cells are drawn from the
    seed, the split and its name. With mechanism "by-label", class c of C misses at the rate
    2 c / (C − 1) times the one told, whose mean over classes is that rate. DataError if labels are
    needed and there are none.
    """

    def __init__(self, whole: Dataset, missing: MissingSpec) -> None:
        super().__init__(whole.config, whole.modalities, whole.seed)
        # An instance's own: whatever is said of it, the plugin is meant.
        self.kind = whole.kind  # type: ignore[misc]
        self._whole = whole
        self._missing = missing
        if missing.mechanism == "by-label" and not whole.classes:
            raise DataError(
                "data.missing.mechanism: by-label needs labels, "
                f"and dataset {whole.kind!r} has none"
            )

    @property
    def columns(self) -> Mapping[str, str]:
        """Those of the whole dataset."""
        return self._whole.columns

    @property
    def classes(self) -> Sequence[str]:
        """Those of the whole dataset."""
        return self._whole.classes

    def split(self, name: SplitName) -> Split:
        """The rows of the whole dataset, some of their cells None."""
        whole = self._whole.split(name)
        if name == "test":
            return whole
        items = {
            own: _Column(column, self._left_out(name, own, whole))
            for own, column in whole.items.items()
        }
        return replace(whole, items=items)

    def fingerprint(self) -> str:
        """Also of what is left out."""
        told = f"{self._whole.fingerprint()} {self._missing.model_dump_json()}"
        return hashlib.sha256(told.encode()).hexdigest()

    def _left_out(self, split: str, column: str, whole: Split) -> Sequence[bool]:
        """Which rows of a column miss their cell."""
        told = self._missing.rate
        rate = told.get(column, 0.0) if isinstance(told, dict) else told
        rates = np.full(len(whole.ids), rate)
        if self._missing.mechanism == "by-label" and whole.labels is not None:
            labels = np.array(whole.labels)
            last = max(len(self.classes) - 1, 1)
            rates = np.where(labels >= 0, rate * 2 * labels / last, rate)
        rng = np.random.default_rng(derive(self.seed, "missing", split, column))
        return (rng.random(len(rates)) < rates).tolist()


class _Column(Sequence[Any]):
    """A column without some of its cells."""

    def __init__(self, whole: Sequence[Any], left_out: Sequence[bool]) -> None:
        self._whole = whole
        self._left_out = left_out

    def __len__(self) -> int:
        return len(self._left_out)

    def __getitem__(self, row: Any) -> Any:
        return None if self._left_out[row] else self._whole[row]
