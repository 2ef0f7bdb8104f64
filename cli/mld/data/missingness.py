"""Missing cells: leaves cells of a dataset out of training, as if they had not been recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from mld.config.plugin_sections import MissingSpec
from mld.data.columns import invalid_items
from mld.runtime.seeds import derive
from mld_core import DataError, Dataset, Split, SplitName


class DatasetWithMissingCells(Dataset):
    """Wraps a dataset and leaves out some cells of its training and validation rows.

    Test rows stay complete, so that runs with different rates are evaluated on the same rows; on
    validation rows, each is evaluated on the cells that it leaves. Classifiers of the evaluation
    are trained on the remaining cells, too. The cells of a modality are drawn from the seed, the
    split and the modality's name. With mechanism "by-label", class c of C is missing at the rate
    2 c / (C − 1) times `missing.rate`, which is the mean over classes. DataError if that needs
    labels and the dataset has none.
    """

    def __init__(self, dataset: Dataset, missing: MissingSpec) -> None:
        super().__init__(dataset.config, dataset.modalities, dataset.seed)
        # Per instance, so that errors name the wrapped plugin.
        self.kind = dataset.kind
        self._dataset, self._missing = dataset, missing
        if missing.mechanism == "by-label" and not dataset.classes:
            raise DataError(
                "data.missing.mechanism: by-label needs labels, "
                f"and dataset {dataset.kind!r} has none"
            )

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns of the wrapped dataset."""
        return self._dataset.columns

    @property
    def classes(self) -> Sequence[str]:
        """The classes of the wrapped dataset."""
        return self._dataset.classes

    def split(self, name: SplitName) -> Split:
        """The rows of the wrapped dataset, with None in the cells that are left out."""
        split = self._dataset.split(name)
        if name == "test":
            return split
        items, present, invalid = {}, {}, {}
        for column, values in split.items.items():
            missing = self._draw_missing(name, column, split)
            reasons = invalid_items(split, column)
            invalid[column] = {row: why for row, why in reasons.items() if not missing[row]}
            items[column] = _ColumnWithMissingCells(values, missing)
            recorded = np.ones(len(missing), bool)
            if split.present is not None:
                recorded = np.array(split.present[column], bool)
            present[column] = (recorded & ~missing).tolist()
        return replace(split, items=items, present=present, invalid=invalid)

    def peek(self, name: SplitName, rows: int) -> Split:
        """Rows of the wrapped dataset; none of their cells is left out."""
        return self._dataset.peek(name, rows)

    def fingerprint(self) -> str:
        """Includes the setting of missing cells."""
        text = f"{self._dataset.fingerprint()} {self._missing.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _draw_missing(self, name: str, column: str, split: Split) -> Bool[np.ndarray, " row"]:
        """Draw which rows of a column lose their cell."""
        rates = self._missing.rate
        rate = rates.get(column, 0.0) if isinstance(rates, dict) else rates
        row_rates = np.full(len(split.ids), rate)
        if self._missing.mechanism == "by-label" and split.labels is not None:
            labels = np.array(split.labels)
            last = max(len(self.classes) - 1, 1)
            row_rates = np.where(labels >= 0, rate * 2 * labels / last, rate)
        rng = np.random.default_rng(derive(self.seed, "missing", name, column))
        return rng.random(len(row_rates)) < row_rates


@dataclass(frozen=True)
class _ColumnWithMissingCells(Sequence[Any]):
    column: Sequence[Any]
    missing: Bool[np.ndarray, " row"]

    def __len__(self) -> int:
        return len(self.missing)

    def __getitem__(self, row: Any) -> Any:
        return None if self.missing[row] else self.column[row]
