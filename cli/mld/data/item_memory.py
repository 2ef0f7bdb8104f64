"""The memory that the items of a dataset need, estimated from one of each modality."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from mld.data.columns import PEEK_ITEMS, Column, open_split
from mld_core import DataError, Dataset, Modality


def check_item_memory(
    dataset: Dataset, modalities: Mapping[str, Modality], rows: int, available: int | None
) -> int:
    """The bytes of the items of so many rows. DataError if they are more than are available.

    Every row counts with every modality, because a missing item takes the space of a recorded one.
    """
    sizes = {
        name: rows * first_item_bytes(dataset, modalities, name, modality)
        for name, modality in modalities.items()
    }
    total = sum(sizes.values())
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


def first_item_bytes(dataset: Dataset, names: Iterable[str], name: str, modality: Modality) -> int:
    """The bytes of an item of the modality `name`; 0 if none of the first ones is readable.

    Args:
        names: of all modalities.
    """
    split = open_split(dataset, "train", names, PEEK_ITEMS)
    column = Column(split, "train", name, dataset.kind, PEEK_ITEMS)
    items = column.items(modality, [], f"measure {name}")
    _, first = next(items, (0, None))
    return 0 if first is None else first.nbytes
