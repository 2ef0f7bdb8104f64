"""What each split of a dataset has: its rows by recorded modalities, and its labels, as counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from pydantic import JsonValue
from torch import Tensor

from mld.data.columns import open_split
from mld.data.loading import Data
from mld.data.types import subset_key
from mld_core import SPLITS, Dataset, SplitName


@dataclass(frozen=True)
class SplitCoverage:
    """What one split has.

    Args:
        rows: the number of rows by the modalities that they have, in the spec's order; rows
            without any are left out.
        labelled: of each modality, the number of its items by class index.
    """

    rows: Mapping[tuple[str, ...], int]
    labelled: Mapping[str, Sequence[int]]

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(self.rows.values())

    def rows_with(self, names: Iterable[str]) -> int:
        """The number of rows that have all of some modalities."""
        wanted = set(names)
        return sum(count for recorded, count in self.rows.items() if wanted <= set(recorded))


@dataclass(frozen=True)
class Coverage:
    """What each split of a dataset has.

    Args:
        names: of the modalities, in the spec's order.
        classes: the name of each class index; empty without labels.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    splits: Mapping[SplitName, SplitCoverage]

    @property
    def count(self) -> int:
        """The number of rows of all splits."""
        return sum(split.count for split in self.splits.values())

    def as_json(self) -> dict[str, JsonValue]:
        """The counts, for the marker of a stage."""
        return {
            name: {
                "rows": {subset_key(recorded): count for recorded, count in split.rows.items()},
                "labelled": {modality: [*counts] for modality, counts in split.labelled.items()},
            }
            for name, split in self.splits.items()
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], classes: Sequence[str]) -> Coverage:
        """What `as_json` returned."""
        splits = {
            name: SplitCoverage(
                {tuple(key.split("+")): count for key, count in record[name]["rows"].items()},
                record[name]["labelled"],
            )
            for name in SPLITS
        }
        return cls(tuple(splits["train"].labelled), tuple(classes), splits)


def coverage_of(data: Data) -> Coverage:
    """What all data have; reads them if they are not read yet."""
    splits = {name: split_coverage(data, name) for name in SPLITS}
    return Coverage(tuple(data.train.items), data.classes, splits)


def split_coverage(data: Data, name: SplitName) -> SplitCoverage:
    """What one split of the data has; reads it if it is not read yet."""
    rows = data.split(name)
    return _count(tuple(rows.items), rows.present, rows.labels, len(data.classes))


def declared_coverage(dataset: Dataset, modalities: Iterable[str]) -> Coverage:
    """What a dataset tells without reading an item; where it does not, each cell has one.

    The data cannot have more, but an item that turns out to be missing or unusable makes it less.
    """
    names, classes = tuple(modalities), tuple(dataset.classes)
    splits = {}
    for name in SPLITS:
        split = open_split(dataset, name, names)
        present = torch.ones(len(split.ids), len(names), dtype=torch.bool)
        if split.present is not None:
            columns = [torch.tensor(list(split.present[column])).bool() for column in names]
            present = torch.stack(columns, dim=1)
        labels = None if split.labels is None else torch.tensor(list(split.labels))
        splits[name] = _count(names, present, labels, len(classes))
    return Coverage(names, classes, splits)


def _count(
    names: Sequence[str], present: Bool[Tensor, "row modality"], labels: Tensor | None, classes: int
) -> SplitCoverage:
    rows = Counter(
        tuple(name for name, has in zip(names, row, strict=True) if has) for row in present.tolist()
    )
    rows.pop((), None)
    labelled = {}
    for index, name in enumerate(names):
        known = labels[present[:, index] & (labels >= 0)] if labels is not None else torch.zeros(0)
        labelled[name] = torch.bincount(known.long(), minlength=classes).tolist()
    return SplitCoverage(rows, labelled)
