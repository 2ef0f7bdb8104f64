"""Columns of a dataset under the names of modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from mld_core import Dataset, Modality, Split, SplitName

Value = TypeVar("Value")


class DatasetWithRenamedColumns(Dataset):
    """Wraps a dataset, some of whose columns have another name than the modality that reads them.

    Args:
        modalities: by name.
        columns: the column of each modality.
    """

    def __init__(
        self, dataset: Dataset, modalities: Mapping[str, Modality], columns: Mapping[str, str]
    ) -> None:
        super().__init__(dataset.config, modalities, dataset.seed)
        # Per instance, so that errors name the wrapped plugin.
        self.kind = dataset.kind
        self._dataset = dataset
        self._columns = {name: columns[name] for name in modalities}

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns that modalities read, by the modality's name."""
        return self._renamed(self._dataset.columns)

    @property
    def classes(self) -> Sequence[str]:
        """The classes of the wrapped dataset."""
        return self._dataset.classes

    def split(self, name: SplitName) -> Split:
        """The rows of the wrapped dataset."""
        return self._rename(self._dataset.split(name))

    def peek(self, name: SplitName, rows: int) -> Split:
        """Rows of the wrapped dataset."""
        return self._rename(self._dataset.peek(name, rows))

    def fingerprint(self) -> str:
        """That of the wrapped dataset: the same rows, whatever modalities are called."""
        return self._dataset.fingerprint()

    def _rename(self, split: Split) -> Split:
        return replace(
            split,
            items=self._renamed(split.items),
            present=None if split.present is None else self._renamed(split.present),
            invalid=None if split.invalid is None else self._renamed(split.invalid),
        )

    def _renamed(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Values by column, now by modality; those that are missing are left out."""
        return {name: values[column] for name, column in self._columns.items() if column in values}
