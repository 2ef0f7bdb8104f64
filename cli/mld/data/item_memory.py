"""The memory and disk that the items of a dataset need, estimated from one of each modality."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mld.data.columns import PEEK_ITEMS, Column, open_split
from mld.data.item_places import ItemPlaces
from mld_core import DataError, Dataset, Modality


@dataclass(frozen=True)
class ItemBytes:
    """The bytes of all packed items."""

    memory: int
    disk: int


def check_item_memory(
    dataset: Dataset,
    modalities: Mapping[str, Modality],
    places: ItemPlaces,
    available: int | None,
) -> ItemBytes:
    """The bytes of all items. DataError or OutputError if they are more than are available.

    Every row counts with every modality, though a missing item takes no space.

    Args:
        available: bytes of memory; None if unknown.
    """
    sizes, on_disk = {}, 0
    for name, modality in modalities.items():
        item_bytes = first_item_bytes(dataset, modalities, name, modality)
        if places.is_on_disk(item_bytes):
            on_disk += places.rows * item_bytes
        else:
            sizes[name] = places.rows * item_bytes
    total = sum(sizes.values())
    if available is not None and total > available:
        largest = max(sizes, key=lambda name: sizes[name])
        raise DataError(
            f"the items of {places.rows:,} rows need {total / 1e9:.1f} GB of memory, those of "
            f"modality {largest!r} {sizes[largest] / 1e9:.1f} GB, but {available / 1e9:.1f} GB are "
            "available: choose compute.items: disk, smaller items in the modality's settings, or "
            "fewer rows"
        )
    if available is not None and 2 * total > available:
        warnings.warn(
            f"the items need {total / 1e9:.1f} GB of memory, more than half of the "
            f"{available / 1e9:.1f} GB available; training may need as much again",
            stacklevel=2,
        )
    if places.store is not None and on_disk:
        places.store.check_space(on_disk)
    return ItemBytes(total, on_disk)


def first_item_bytes(dataset: Dataset, names: Iterable[str], name: str, modality: Modality) -> int:
    """The bytes of a packed item of the modality `name`; 0 if none of the first is readable.

    Args:
        names: of all modalities.
    """
    split = open_split(dataset, "train", names, PEEK_ITEMS)
    return packed_item_bytes(Column(split, "train", name, dataset.kind), modality)


def packed_item_bytes(column: Column, modality: Modality) -> int:
    """The bytes of a packed item of a column; 0 if none of the first is readable."""
    column = replace(column, max_items=PEEK_ITEMS)
    items = column.items(modality, [], f"measure {column.name}")
    _, first = next(items, (0, None))
    return 0 if first is None else modality.pack(first[None]).nbytes
