"""The memory that the items of a dataset need, estimated from one of each modality."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from mld.data.columns import PEEK_ITEMS, Column, open_split
from mld.runtime.memory import available_memory
from mld_core import DataError, Dataset, Modality


def check_item_memory(dataset: Dataset, modalities: Mapping[str, Modality], rows: int) -> int:
    """The bytes of the items of so many rows. DataError if they are more than are available.

    Every row counts with every modality, because a missing item takes the space of a recorded one.
    A modality without a readable item among the first ones counts nothing.
    """
    split = open_split(dataset, "train", modalities, PEEK_ITEMS)
    sizes = {}
    for name, modality in modalities.items():
        items = Column(split, name, dataset.kind, PEEK_ITEMS).items(modality, [], f"measure {name}")
        _, first = next(items, (0, None))
        sizes[name] = 0 if first is None else rows * first.nbytes
    total, available = sum(sizes.values()), available_memory()
    if available is not None and total > available:
        largest = max(sizes, key=lambda name: sizes[name])
        raise DataError(
            f"the items of {rows:,} rows need {total / 1e9:.1f} GB of memory, those of modality "
            f"{largest!r} {sizes[largest] / 1e9:.1f} GB, but {available / 1e9:.1f} GB are "
            "available: list fewer rows, or choose smaller items in the modality's settings"
        )
    if available is not None and 2 * total > available:
        warnings.warn(
            f"the items need {total / 1e9:.1f} GB of memory, more than half of the "
            f"{available / 1e9:.1f} GB available; training may need as much again",
            stacklevel=2,
        )
    return total
