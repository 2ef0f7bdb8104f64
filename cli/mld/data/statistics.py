"""Statistics of a dataset's rows, as users look at them before they train."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from mld.data.columns import PLUGIN_ERRORS, Column, open_split
from mld.data.loading import Data, all_faults
from mld.data.quality import row_digests
from mld_core import SPLITS, Dataset, Modality, SplitName, plugin_call

HELD_OUT = SPLITS[1:]
MIN_DISTINCT = 0.9
"""Share of different items in a column from which on equal ones are unexpected."""
MAX_WORDS = 8
"""Words of a column that are listed, the most frequent and the rarest."""


@dataclass(frozen=True)
class Quantity:
    """A number that each datum of a column has, such as its length."""

    minimum: float
    median: float
    percent_95: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantity:
        """The quantiles of values."""
        return cls(*np.percentile(values, (0, 50, 95, 100), method="inverted_cdf").tolist())


@dataclass(frozen=True)
class Words:
    """Words that data of a column consist of, with the number of data that have each.

    Args:
        count: of different words.
        frequent: the most frequent ones.
        rare: those of a single datum.
    """

    count: int
    frequent: Mapping[str, int]
    rare: Sequence[str]

    @classmethod
    def of(cls, counts: Counter[str]) -> Words:
        """The most frequent and the rarest words."""
        rare = sorted(word for word, count in counts.items() if count == 1)
        return cls(len(counts), dict(counts.most_common(MAX_WORDS)), rare[:MAX_WORDS])


@dataclass(frozen=True)
class ColumnStatistics:
    """What the items of one modality are.

    Args:
        recorded: items by split, without those that cannot be used.
        invalid: items that cannot be used.
        distinct: different items.
        leaked: by held-out split, items that are equal to one of the training split.
        same_key: by held-out split, items whose split key is that of one of the training split;
            empty if the modality has no keys.
        quantities, words: what the modality tells of its data, by name.
    """

    kind: str
    recorded: Mapping[str, int]
    invalid: int
    distinct: int
    leaked: Mapping[str, int]
    same_key: Mapping[str, int]
    quantities: Mapping[str, Quantity]
    words: Mapping[str, Words]

    @property
    def count(self) -> int:
        """The number of items that can be used."""
        return sum(self.recorded.values())


def column_statistics(
    data: Data, dataset: Dataset, name: str, modality: Modality
) -> ColumnStatistics:
    """The statistics of one modality; reads its data once more."""
    digests: dict[str, list[bytes]] = {split: [*_digests(data, split, name)] for split in SPLITS}
    keys: dict[str, list[str]] = {split: [] for split in SPLITS}
    quantities: dict[str, list[float]] = defaultdict(list)
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for split in SPLITS:
        column = Column(open_split(dataset, split, [name]), split, name, dataset.kind)
        for raw in column:
            key, profile = _describe(modality, raw)
            if key is not None:
                keys[split].append(key)
            for what, value in profile.items():
                if isinstance(value, int | float):
                    quantities[what].append(float(value))
                else:
                    words[what].update({*value})
    faults, _ = all_faults(data)
    return ColumnStatistics(
        kind=modality.kind,
        recorded={split: len(rows) for split, rows in digests.items()},
        invalid=sum(fault.modality == name for fault in faults),
        distinct=len({*chain(*digests.values())}),
        leaked=_in_training(digests),
        same_key=_in_training(keys) if any(keys.values()) else {},
        quantities={what: Quantity.of(values) for what, values in quantities.items()},
        words={what: Words.of(counts) for what, counts in words.items()},
    )


def _describe(
    modality: Modality, raw: Any
) -> tuple[str | None, Mapping[str, int | float | Sequence[str]]]:
    """The split key and the profile of a datum; those that cannot be used have none."""
    call = f"kind {modality.kind!r}"
    try:
        with plugin_call(f"{call}: split_key", passes=PLUGIN_ERRORS):
            key = modality.split_key(raw)
        with plugin_call(f"{call}: profile", passes=PLUGIN_ERRORS):
            return key, modality.profile(raw)
    except (ValueError, OSError):
        return None, {}


def _in_training(values: Mapping[str, Sequence[Any]]) -> dict[str, int]:
    """How many values of each held-out split are in the training split too."""
    train = {*values["train"]}
    return {split: sum(value in train for value in values[split]) for split in HELD_OUT}


def column_warnings(columns: Mapping[str, ColumnStatistics]) -> Iterator[str]:
    """A sentence for each column that is constant, or whose held-out items are not new."""
    for name, column in columns.items():
        if column.distinct == 1 and column.count > 1:
            yield f"all items of {name} are equal: it tells nothing about the others"
        # Numbers and categories repeat; names and molecules do not.
        elif column.distinct >= MIN_DISTINCT * column.count and any(column.leaked.values()):
            splits = ", ".join(f"{split} {count:,}" for split, count in column.leaked.items())
            yield (
                f"items of {name} in held-out rows are those of training rows ({splits}): scores "
                "on them measure memory, so put equal ones into one split, as split_by does"
            )


def repeated_rows(data: Data) -> int:
    """The rows that equal an earlier one in every cell, over all splits."""
    digests = [digest for split in SPLITS for _, digest in row_digests(data.split(split))]
    return len(digests) - len({*digests})


def _digests(data: Data, split: SplitName, name: str) -> Iterator[bytes]:
    """A digest of each item of a modality."""
    return filter(None, data.split(split).items[name].item_digests())
